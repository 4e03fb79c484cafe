// Chooses the model of a place.

import { element } from "./dom.js";

/** A select of the models, in step with the session. */
export class ModelPicker {
  #session;
  #slot;
  #select;

  constructor(session, slot) {
    this.#session = session;
    this.#slot = slot;
    this.#select = element("select", {
      "aria-label": slot === 0 ? "Model" : "Second model",
      change: () => session.choose(this.#slot, this.#select.value || null),
    });
    this.root = element("label.model-picker", {}, this.#select);
    this.update();
  }

  update() {
    const { models, slots } = this.#session;
    const names = models.map((model) => model.name).join();
    if (this.#select.dataset.names !== names || !this.#select.options.length) {
      this.#select.dataset.names = names;
      this.#select.replaceChildren(...(models.length ? models.map(choice) : [defaultChoice()]));
    }
    this.#select.value = slots[this.#slot] ?? this.#session.modelOf(null)?.name ?? "";
  }
}

function choice(model) {
  const label = model.default ? `${model.name} (default)` : model.name;
  return element("option", { value: model.name }, label);
}

function defaultChoice() {
  return element("option", { value: "" }, "default model");
}
