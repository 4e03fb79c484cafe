// Requests to the service. Every address is relative to the page, so that a proxy may show both
// under any path. Knows no page.

import { readKey } from "./key.js";
import { problemOfAnswer, unreachable, unreadableFile } from "./problem.js";

/** The models of the service: `GET /models`. */
export async function listModels() {
  return JSON.parse(await send("GET", "models")).models;
}

/**
 * A photo's captions with their maps: `POST /attention`.
 * @param {File} file
 * @param {object} options  those of the API
 * @param {{signal?: AbortSignal, onSent?: (fraction: number) => void}} [watch]
 */
export async function readPhoto(file, options, watch = {}) {
  return JSON.parse(await upload(file, options, { ...watch }));
}

/** The maps drawn over the photo, a PNG as a Blob. */
export function drawMaps(file, options, watch = {}) {
  return upload(file, { ...options, format: "png" }, { ...watch, responseType: "blob" });
}

/** The address of a request relative to the page. */
export function addressOf(options) {
  const query = new URLSearchParams(options).toString();
  return query ? `attention?${query}` : "attention";
}

async function upload(file, options, watch) {
  const form = new FormData();
  form.append("image", file, file.name || "photo");
  try {
    return await send("POST", addressOf(options), { ...watch, body: form });
  } catch (problem) {
    if (problem.status === 0 && !await canBeRead(file)) throw unreadableFile(file.name);
    throw problem;
  }
}

/** Whether the file is still there: without it, a request fails as if the service were away. */
async function canBeRead(file) {
  const reader = file.stream().getReader();
  try {
    await reader.read(); // the beginning is enough: it may be a long film
    return true;
  } catch {
    return false;
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/** Send a request; give its answer's body. XMLHttpRequest, as fetch tells no upload's progress. */
function send(method, address, { body, signal, onSent, responseType = "text" } = {}) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted(); // thrown here, it rejects
    const request = new XMLHttpRequest();
    request.open(method, address);
    request.responseType = responseType;
    const key = readKey();
    if (key) request.setRequestHeader("Authorization", `Bearer ${key}`);
    if (onSent) {
      request.upload.addEventListener("progress", (event) => {
        if (event.lengthComputable) onSent(event.loaded / event.total);
      });
    }
    request.addEventListener("error", () => reject(unreachable()));
    request.addEventListener("abort", () => reject(new DOMException("abandoned", "AbortError")));
    request.addEventListener("load", async () => {
      if (request.status === 200) {
        resolve(request.response);
      } else {
        const text = responseType === "blob" ? await request.response.text() : request.response;
        reject(problemOfAnswer(request.status, text, request.getResponseHeader("Retry-After")));
      }
    });
    signal?.addEventListener("abort", () => request.abort());
    request.send(body);
  });
}
