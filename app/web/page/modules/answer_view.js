// A model's answer: the sentence, what can be taken away, the others that came close, the numbers.

import { actionRow, curlSection } from "./actions.js";
import { candidateList } from "./candidates.js";
import { element } from "./dom.js";
import { Sentence } from "./sentence.js";
import { wordTable } from "./word_table.js";

export class AnswerView {
  #answer;
  #look;
  #sentence = null;
  #shown = null; // the caption that is shown, one of the answer's
  #lines = element("div.lines");
  #numbers = element("details.numbers");

  /**
   * @param {import("./reading.js").Reading} reading  a done one
   * @param {(alpha: number[][]|null) => void} look  told which map is lit
   */
  constructor(reading, look) {
    const { answer } = reading;
    this.#answer = answer;
    this.#look = look;
    const captions = answer.captions ?? [{ text: answer.caption, words: answer.words }];
    this.#shown = captions[0];
    this.root = element(
      "div.answer",
      {},
      this.#lines,
      ...(answer.warnings ?? []).map((warning) => element("p.warning", {}, warning)),
    );
    const more = element("div.more", {});
    if (captions.length > 1) {
      more.append(candidateList(captions, (rank) => this.#show(captions[rank], reading)));
    }
    more.append(this.#numbers, curlSection(reading), origin(answer));
    this.root.append(more);
    this.#show(captions[0], reading);
  }

  /** Put the focus on the first word, or on the last. */
  enter(fromEnd) {
    this.#sentence.enter(fromEnd);
  }

  end() {
    this.#sentence.end();
  }

  #show(caption, reading) {
    this.#sentence?.end();
    this.#shown = caption;
    this.#sentence = new Sentence(
      caption.words,
      this.#answer.calibrated,
      (word) => this.#look(word ? word.alpha : null),
    );
    this.#lines.replaceChildren(
      this.#sentence.root,
      actionRow(reading, () => this.#shown.text, this.#sentence.playButton),
    );
    this.#numbers.replaceChildren(
      element("summary", {}, "Word by word"),
      wordTable(caption.words, this.#answer.calibrated, this.#answer.maps),
    );
  }
}

function origin(answer) {
  const { decode_seconds: decode, queue_seconds: queue, compute_seconds: compute } = answer.timing;
  const { width, height, format } = answer.image;
  const seconds = (decode + queue + compute).toFixed(2);
  return element(
    "p.small.origin",
    {},
    `${answer.model.name} · ${seconds} s · ${format}, ${width} × ${height}`,
  );
}
