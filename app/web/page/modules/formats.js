// A caption in the forms in which people take it elsewhere. Pure: knows no page.

/** The `alt` attribute of an HTML image. */
export function altAttribute(text) {
  const escaped = text.replace(/&/g, "&amp;").replace(/"/g, "&quot;").replace(/</g, "&lt;");
  return `alt="${escaped}"`;
}

/** The answer as JSON for people: all captions and numbers, without the maps. */
export function answerAsJson(answer) {
  const { captions, words, grid, timing, maps, ...others } = answer;
  const all = captions ?? [{ text: answer.caption, words }];
  const withoutMaps = all.map((caption) => ({
    ...caption,
    words: caption.words.map(({ alpha, ...word }) => word),
  }));
  return JSON.stringify({ caption: answer.caption, captions: withoutMaps, ...others }, null, 2);
}

/**
 * The command that asks the same, for a POSIX shell in the folder of the photo.
 *
 * A file name with anything that a terminal could take for a command of its own is left out.
 * @param {string} fileName
 * @param {string} url
 * @param {boolean} needsKey  whether a key is sent; the line names where the shell has it
 */
export function curlLine(fileName, url, needsKey) {
  const name = /\p{C}|[\u2028\u2029]/u.test(fileName) ? "photo.jpg" : fileName;
  const path = name === "-" ? "./-" : name; // "-" alone is the standard input
  const form = `image=@"${path.replace(/[\\"]/g, "\\$&")}"`; // curl's quoting, inside the shell's
  const key = needsKey ? ' -H "Authorization: Bearer $GLIMPSE_KEY"' : "";
  return `curl${key} -F ${shellQuoted(form)} ${shellQuoted(url)}`;
}

/** 0.293 as "29 %"; what is above nothing is never 0. */
export function percent(fraction) {
  const rounded = Math.round(fraction * 100);
  return `${rounded === 0 && fraction > 0 ? "<1" : rounded} %`;
}

function shellQuoted(text) {
  return `'${text.replace(/'/g, "'\\''")}'`;
}
