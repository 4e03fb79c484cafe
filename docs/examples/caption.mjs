// A photo's captions, and a drawing of where the model looked. Usage: node caption.mjs PHOTO
import { readFile, writeFile } from "node:fs/promises";

const server = process.env.GLIMPSE_URL ?? "http://localhost:8000";
const key = process.env.GLIMPSE_API_KEY;

async function ask(path, photo) {
  const body = new FormData();
  body.append("image", new Blob([photo]), "photo");
  const response = await fetch(server + path, {
    method: "POST",
    body,
    headers: key ? { "X-API-Key": key } : {},
    signal: AbortSignal.timeout(60_000),
  });
  if (!response.ok) {
    throw new Error((await response.json()).detail); // what is wrong, and what would be right
  }
  return response;
}

try {
  const photo = await readFile(process.argv[2]);
  const { captions } = await (await ask("/caption?num_captions=3", photo)).json();
  for (const { text, confidence } of captions) {
    console.log(`${text} (${confidence.toFixed(2)})`);
  }
  const drawing = await ask("/attention?format=png", photo);
  await writeFile("attention.png", Buffer.from(await drawing.arrayBuffer()));
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
