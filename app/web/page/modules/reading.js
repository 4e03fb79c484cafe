// What one model says of one photo, from the wish for it to the answer. Knows no page.

import { readPhoto } from "./service.js";

/**
 * One question to the service, and how it stands. It tells of every "change".
 *
 *     waiting ──> sending ──> computing ──> done
 *        ^           └───────────┴──> failed
 *        └── held, until the service has room again
 */
export class Reading extends EventTarget {
  state = "waiting";
  sent = 0; // of the upload, 0 to 1
  answer = null;
  problem = null;
  heldUntil = null; // milliseconds since 1970, while the service asks for patience
  tries = 0;
  firstTried = 0; // milliseconds since 1970
  lastAsked = 0; // the same
  #abandoning = new AbortController();

  /**
   * @param {import("./photo.js").Photo} photo
   * @param {object} options  those of the API
   */
  constructor(photo, options) {
    super();
    this.photo = photo;
    this.options = options;
  }

  /** Whether it will still change by itself. */
  get isOpen() {
    return ["waiting", "sending", "computing"].includes(this.state);
  }

  get isAbandoned() {
    return this.#abandoning.signal.aborted;
  }

  /** Ask the service. Throws its Problem, or an AbortError where the reading was abandoned. */
  async ask() {
    this.lastAsked = Date.now();
    if (this.tries === 0) this.firstTried = this.lastAsked;
    this.tries += 1;
    this.#become("sending", { sent: 0, problem: null, heldUntil: null });
    this.answer = await readPhoto(this.photo.file, this.options, {
      signal: this.#abandoning.signal,
      onSent: (sent) => this.#become(sent < 1 ? "sending" : "computing", { sent }),
    });
    this.#become("done");
  }

  /** Wait: for a place, or until a time (milliseconds since 1970) because of a problem. */
  wait(heldUntil = null, problem = null) {
    this.#become("waiting", { heldUntil, problem });
  }

  fail(problem) {
    this.#become("failed", { problem, heldUntil: null });
  }

  /** Nobody wants the answer any more: the service is told, by the end of the connection. */
  abandon() {
    this.#abandoning.abort();
  }

  #become(state, values = {}) {
    Object.assign(this, values, { state });
    this.dispatchEvent(new Event("change"));
  }
}
