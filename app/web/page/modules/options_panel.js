// How the search is done: beam size, captions, length. What is untouched is the model's own.

import { button, element } from "./dom.js";

const FIELDS = [
  {
    name: "beam_size", label: "Beam size", hint: "kept at each word; 1 is fastest",
    min: 1, max: 20, step: 1,
  },
  {
    name: "num_captions", label: "Captions", hint: "at most the beam size",
    min: 1, max: 20, step: 1,
  },
  { name: "max_length", label: "Longest caption", hint: "in words", min: 1, max: 50, step: 1 },
  {
    name: "length_penalty", label: "Length penalty", hint: "0 favors short captions",
    min: 0, max: 2, step: 0.1,
  },
];

/** The panel, in step with the session. */
export class OptionsPanel {
  #session;
  #inputs = new Map();

  constructor(session) {
    this.#session = session;
    this.#inputs = new Map(FIELDS.map((field) => [field.name, this.#input(field)]));
    this.root = element(
      "div.options",
      { id: "options", role: "group", "aria-label": "Options of the search" },
      ...FIELDS.map((field) => this.#row(field)),
      button("Reset", { icon: "reset", click: () => session.resetOptions() }),
    );
    this.root.hidden = true;
    this.update();
  }

  update() {
    for (const field of FIELDS) {
      const { input, output } = this.#inputs.get(field.name);
      const value = this.#session.shownOption(field.name);
      input.value = value;
      output.textContent = value;
    }
  }

  #input(field) {
    const output = element("output", { for: field.name });
    const input = element("input", {
      type: "range",
      id: field.name,
      min: field.min,
      max: field.max,
      step: field.step,
      "aria-describedby": `${field.name}-hint`,
      input: () => { output.textContent = input.value; },
      change: () => this.#session.set(field.name, Number(input.value)),
    });
    return { input, output };
  }

  #row(field) {
    const { input, output } = this.#inputs.get(field.name);
    return element(
      "div.option",
      {},
      element("label", { for: field.name }, field.label),
      output,
      input,
      element("span.small", { id: `${field.name}-hint` }, field.hint),
    );
  }
}
