// What went wrong, in words for people. Most come from the service itself, as a problem document
// (RFC 9457); the rest is what only a browser can know.

/** An answer that is no caption, or the lack of any. */
export class Problem extends Error {
  /**
   * @param {object} about
   * @param {number} about.status  the HTTP status; 0 where there was no answer
   * @param {string} [about.kind]  which problem of the service, as "queue-full"
   * @param {string} about.title  the same in words
   * @param {string} about.detail  what is wrong, and what would be right
   * @param {string} [about.request]  the request's id, for the operator's log
   * @param {number|null} [about.retrySeconds]  when to ask again, where the service says so
   */
  constructor({ status, kind = "", title, detail, request = "", retrySeconds = null }) {
    super(title);
    this.status = status;
    this.kind = kind;
    this.title = title;
    this.detail = detail;
    this.request = request;
    this.retrySeconds = retrySeconds;
  }
}

/** The service cannot be reached. */
export function unreachable() {
  return new Problem({
    status: 0,
    title: "The service does not answer",
    detail: `Nothing answers at ${location.host}. See that Glimpse runs and that this device is `
      + "connected, then try again.",
  });
}

/** The browser could not read the file. */
export function unreadableFile(name) {
  return new Problem({
    status: 0,
    title: "The file cannot be read",
    detail: `The browser could not read “${name}”. It may have been moved, or be a folder. Choose `
      + "it again.",
  });
}

/**
 * The problem of an answer.
 * @param {number} status
 * @param {string} text  the body
 * @param {string|null} retryAfter  the header of that name
 */
export function problemOfAnswer(status, text, retryAfter) {
  const said = parse(text);
  return new Problem({
    status,
    kind: String(said.type ?? "").split("/").at(-1),
    title: said.title ?? `The answer was ${status}`,
    detail: said.detail
      ?? "Something between this page and Glimpse answered in its place. Try again in a moment.",
    request: (said.instance ?? "").replace(/^urn:request:/, ""),
    retrySeconds: status === 429 || status === 503 ? secondsOf(retryAfter) : null,
  });
}

/** A title and a detail if the text is a problem document, else an empty object. */
function parse(text) {
  try {
    const said = JSON.parse(text);
    return typeof said?.title === "string" && typeof said.detail === "string" ? said : {};
  } catch {
    return {};
  }
}

/** Retry-After in seconds, at least 1; it is a number, or a date. Null where there is none. */
function secondsOf(retryAfter) {
  if (!retryAfter) return null;
  const seconds = /^\d+$/.test(retryAfter.trim())
    ? Number(retryAfter)
    : (Date.parse(retryAfter) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(1, Math.ceil(seconds)) : null;
}
