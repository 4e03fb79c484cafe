// Sends readings to the service, a few at a time, and is patient when it asks for that.

const PARALLEL = 2;
const PATIENCE_SECONDS = 300; // a quota of the day is nothing to wait for
const MAX_TRIES = 3; // where the photo itself may be what the service stumbles over
const FULL = new Set([
  "not-ready", "queue-full", "too-many-requests", "too-many-uploads", "too-many-connections",
  "upload-memory-full", "models-memory-full",
]);

/** Tells of "change" when one begins or ends, and of "key-needed". */
export class Queue extends EventTarget {
  #waiting = [];
  #running = new Set();
  #heldUntil = 0;
  #needsKey = false;
  #timer = 0;
  #preferred;

  /** @param {() => object|null} preferred  the photo to serve first, if it waits */
  constructor(preferred) {
    super();
    this.#preferred = preferred;
  }

  /** Ask for a reading as soon as there is a place. */
  add(reading) {
    reading.wait();
    this.#waiting.push(reading);
    this.#fill();
  }

  /** Forget a reading, running or not. */
  drop(reading) {
    reading.abandon();
    this.#waiting = this.#waiting.filter((each) => each !== reading);
    this.#running.delete(reading);
    this.#fill();
  }

  /** Ask again now, whatever the service said of waiting. */
  hurry() {
    this.#heldUntil = 0;
    this.#fill();
  }

  /** Stop waiting: what waits because of a problem fails with it. */
  giveUp() {
    this.#heldUntil = 0;
    this.#needsKey = false;
    const held = this.#waiting.filter((reading) => reading.problem);
    this.#waiting = this.#waiting.filter((reading) => !reading.problem);
    for (const reading of held) reading.fail(reading.problem);
    this.#fill();
  }

  /** There is a key now: ask with it. */
  resume() {
    this.#needsKey = false;
    this.#heldUntil = 0;
    this.#fill();
  }

  #fill() {
    clearTimeout(this.#timer);
    const seconds = (this.#heldUntil - Date.now()) / 1000;
    if (seconds > 0 && this.#waiting.length) {
      this.#timer = setTimeout(() => this.#fill(), seconds * 1000);
    }
    while (seconds <= 0 && !this.#needsKey && this.#running.size < PARALLEL) {
      const next = this.#next();
      if (!next) break;
      this.#run(next);
    }
    this.dispatchEvent(new Event("change"));
  }

  #next() {
    const photo = this.#preferred();
    const index = Math.max(0, this.#waiting.findIndex((reading) => reading.photo === photo));
    return this.#waiting.splice(index, 1)[0];
  }

  async #run(reading) {
    this.#running.add(reading);
    try {
      await reading.ask();
    } catch (error) {
      if (!reading.isAbandoned) this.#handle(reading, error);
    }
    this.#running.delete(reading);
    this.#fill();
  }

  #handle(reading, problem) {
    if (problem.status === 401) {
      this.#needsKey = true;
      this.#waiting.unshift(reading);
      for (const each of this.#waiting) each.wait(null, problem);
      this.dispatchEvent(new CustomEvent("key-needed", { detail: problem }));
    } else if (isWorthWaiting(problem, reading)) {
      this.#heldUntil = Math.max(this.#heldUntil, Date.now() + problem.retrySeconds * 1000);
      this.#waiting.unshift(reading);
      for (const each of this.#waiting) each.wait(this.#heldUntil, problem);
    } else {
      reading.fail(problem);
    }
  }
}

function isWorthWaiting(problem, reading) {
  if (problem.retrySeconds === null) return false;
  const secondsThen = (Date.now() - reading.firstTried) / 1000 + problem.retrySeconds;
  return secondsThen <= PATIENCE_SECONDS && (FULL.has(problem.kind) || reading.tries < MAX_TRIES);
}
