// Steps through the words of a sentence in time. Knows no page.

const WORD_MILLISECONDS = 850;

export class Player {
  #timer = 0;
  #position = null;

  /**
   * @param {number} count  of words
   * @param {(position: number|null) => void} step  told of each position, and of null at the end
   */
  constructor(count, step) {
    this.count = count;
    this.step = step;
  }

  get isPlaying() {
    return this.#position !== null;
  }

  /** Begin with the first word, or end. */
  toggle() {
    if (this.isPlaying) this.stop();
    else this.#go(0);
  }

  stop() {
    clearTimeout(this.#timer);
    if (!this.isPlaying) return;
    this.#position = null;
    this.step(null);
  }

  #go(position) {
    if (position >= this.count) {
      this.stop();
      return;
    }
    this.#position = position;
    this.step(position);
    this.#timer = setTimeout(() => this.#go(position + 1), WORD_MILLISECONDS);
  }
}
