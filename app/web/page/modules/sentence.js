// A caption, word by word: the one that is pointed at, tapped, stepped to or played is lit.

import { button, element, unseen } from "./dom.js";
import { percent } from "./formats.js";
import { describePlace } from "./heat.js";
import { Player } from "./player.js";

export class Sentence {
  #words;
  #measure;
  #look;
  #buttons;
  #info = element("p.word-info", { "aria-hidden": "true" });
  #hint = element(
    "p.word-hint",
    {},
    element(
      "span.with-mouse",
      {},
      "Point at a word, or use the arrow keys, to see where it looked.",
    ),
    element("span.with-touch", {}, "Tap a word to see where it looked."),
  );
  #hovered = null;
  #pinned = null;
  #played = null;
  #player;

  /**
   * @param {object[]} words  as the service gives them
   * @param {boolean} isCalibrated  whether confidences are about people
   * @param {(word: object|null) => void} look  told which word is lit
   */
  constructor(words, isCalibrated, look) {
    this.#words = words;
    this.#measure = isCalibrated ? "confidence" : "probability";
    this.#look = look;
    this.#buttons = words.map((word, position) => this.#button(word, position));
    this.#player = new Player(words.length, (position) => this.#play(position));
    this.playButton = button("Play", { icon: "play", click: () => this.#player.toggle() });
    const line = element(
      "div.words",
      { role: "toolbar", "aria-label": "Words of the caption" },
      ...this.#buttons.flatMap((each) => [each, " "]),
    );
    line.addEventListener("keydown", (event) => this.#onKey(event));
    line.addEventListener("pointerleave", () => this.#set({ hovered: null }));
    this.root = element("div.sentence", {}, line, this.#info, this.#hint);
    this.#update();
  }

  /** Go to the first word, or to the last. */
  enter(fromEnd) {
    if (this.#words.length) this.#goTo(fromEnd ? this.#words.length - 1 : 0);
  }

  /** Stop what runs by itself; the sentence leaves the page. */
  end() {
    this.#player.stop();
  }

  get #shown() {
    return this.#played ?? this.#hovered ?? this.#pinned;
  }

  #button(word, position) {
    const heard = `, ${this.#numbers(word)}, looked ${describePlace(word.alpha)}`;
    const made = element(
      "button.word",
      { type: "button", tabindex: position === 0 ? "0" : "-1", "aria-pressed": "false" },
      word.word,
      unseen(heard),
    );
    made.style.setProperty("--confidence", String(word.confidence));
    made.addEventListener("pointerenter", (event) => {
      if (event.pointerType === "mouse") this.#set({ hovered: position });
    });
    made.addEventListener("click", () => {
      this.#set({ pinned: this.#pinned === position ? null : position });
    });
    return made;
  }

  #numbers(word) {
    return `${this.#measure} ${percent(word.confidence)}, gate ${word.beta.toFixed(2)}`;
  }

  #onKey(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const last = this.#words.length - 1;
    const at = this.#buttons.indexOf(document.activeElement);
    const goals = {
      ArrowRight: Math.min(at + 1, last),
      ArrowLeft: Math.max(at - 1, 0),
      Home: 0,
      End: last,
    };
    if (event.key in goals) {
      event.preventDefault();
      this.#goTo(goals[event.key]);
    } else if (event.key === "Escape") {
      this.#player.stop();
      this.#set({ pinned: null, hovered: null });
    }
  }

  #goTo(position) {
    this.#player.stop();
    this.#buttons.forEach((each, index) => { each.tabIndex = index === position ? 0 : -1; });
    this.#buttons[position].focus();
    this.#set({ pinned: position, hovered: null });
  }

  #play(position) {
    this.#set({ played: position });
    this.playButton.lastChild.textContent = this.#player.isPlaying ? "Stop" : "Play";
    this.playButton.querySelector("use").setAttribute(
      "href",
      this.#player.isPlaying ? "#icon-stop" : "#icon-play",
    );
  }

  #set({ hovered = this.#hovered, pinned = this.#pinned, played = this.#played }) {
    [this.#hovered, this.#pinned, this.#played] = [hovered, pinned, played];
    this.#update();
  }

  #update() {
    const shown = this.#shown;
    this.#buttons.forEach((each, index) => {
      each.classList.toggle("lit", index === shown);
      each.setAttribute("aria-pressed", String(index === this.#pinned));
    });
    const word = this.#words[shown];
    this.#hint.hidden = word !== undefined;
    this.#info.hidden = word === undefined;
    if (word) {
      this.#info.replaceChildren(
        element("b", {}, word.word),
        element("span", {}, `${this.#measure} ${percent(word.confidence)}`),
        element("span", {}, `gate ${word.beta.toFixed(2)}`),
        element("span", {}, `looked ${describePlace(word.alpha)}`),
      );
    }
    this.#look(word ?? null);
  }
}
