// What is on the table: the photos, which one is looked at, which models read it, and how. It lives
// in this tab's memory alone. Knows no page.

import { Photo } from "./photo.js";
import { Queue } from "./queue.js";
import { Reading } from "./reading.js";

/** How many photos the gallery holds; the command line is for more. */
export const MAX_PHOTOS = 100;

const CAPTIONS = 3;
const USUAL = { beam_size: 5, max_length: 20, length_penalty: 1 }; // while no model is known

/** Tells of "change" when photos, models or options change, and of "progress". */
export class Session extends EventTarget {
  photos = [];
  selected = null;
  models = []; // as GET /models describes them; empty until they are known
  slots = [null]; // the models side by side, by name; null is the default one
  options = {}; // what the person chose; what is left out is the model's own

  #loading = Promise.resolve();

  constructor() {
    super();
    this.queue = new Queue(() => this.selected);
    this.queue.addEventListener("change", () => this.dispatchEvent(new Event("progress")));
  }

  /** Take files, as many as find room; gives how many were left out. */
  add(files) {
    const taken = files.slice(0, MAX_PHOTOS - this.photos.length).map((file) => new Photo(file));
    this.photos.push(...taken);
    for (const photo of taken) { // one at a time: a decoded photo may take 100 MB
      this.#loading = this.#loading.then(() => photo.load()).then(() => this.#change());
    }
    if (taken.length) this.select(taken[0]);
    return files.length - taken.length;
  }

  select(photo) {
    this.selected = photo;
    this.#change();
  }

  remove(photo) {
    const index = this.photos.indexOf(photo);
    for (const reading of photo.readings.values()) this.queue.drop(reading);
    photo.forget();
    this.photos = this.photos.filter((each) => each !== photo);
    if (this.selected === photo) {
      this.selected = this.photos[Math.min(index, this.photos.length - 1)] ?? null;
    }
    this.#change();
  }

  clear() {
    for (const photo of [...this.photos]) this.remove(photo);
  }

  /** Let another model read in a place; a place behind the last is one more, side by side. */
  choose(slot, model) {
    this.slots[slot] = model === this.modelOf(null)?.name ? null : model;
    this.#change();
  }

  /** Take a place away. */
  close(slot) {
    this.slots = this.slots.filter((_, index) => index !== slot);
    this.#change();
  }

  /** Set one option of the search; null is the model's own. */
  set(name, value) {
    if (value === null) delete this.options[name];
    else this.options[name] = value;
    this.#change();
  }

  resetOptions() {
    this.options = {};
    this.#change();
  }

  /** The value of an option: what was chosen, else what the first model does by itself. */
  shownOption(name) {
    const asked = this.optionsOf(0)[name];
    return asked ?? this.modelOf(this.slots[0])?.config?.decoding?.[name] ?? USUAL[name];
  }

  /** Learn which models there are. */
  learn(models) {
    this.models = models.filter((model) => !model.problem);
    this.#change();
  }

  /** The description of a model; null is the default one. Undefined while it is not known. */
  modelOf(name) {
    return this.models.find((model) => (name === null ? model.default : model.name === name));
  }

  /** What the service is asked for, for the model in a place. */
  optionsOf(slot) {
    const name = this.slots[slot];
    const usual = this.modelOf(name)?.config?.decoding?.beam_size ?? CAPTIONS;
    const beam = this.options.beam_size ?? usual;
    const wanted = this.options.num_captions ?? CAPTIONS;
    const asked = { ...this.options, num_captions: Math.min(wanted, beam) };
    return name === null ? asked : { model: name, ...asked };
  }

  /** The reading of a photo in a place. */
  readingOf(photo, slot) {
    return photo.readings.get(keyOf(this.optionsOf(slot)));
  }

  /** Ask again for what failed. */
  retry(reading) {
    reading.tries = 0;
    this.queue.add(reading);
  }

  /** Ask again for all that was refused for want of a key. */
  retryRefused() {
    for (const reading of this.photos.flatMap((photo) => [...photo.readings.values()])) {
      if (reading.state === "failed" && reading.problem.status === 401) this.retry(reading);
    }
  }

  /** How many photos there are, and how many of them wait for no answer. */
  get progress() {
    const isOpen = (photo) => [...photo.readings.values()].some((reading) => reading.isOpen);
    return { all: this.photos.length, done: this.photos.filter((each) => !isOpen(each)).length };
  }

  #change() {
    for (const photo of this.photos) this.#askFor(photo);
    this.dispatchEvent(new Event("change"));
  }

  /** See that a photo is read: the selected one as it is looked at, any other once. */
  #askFor(photo) {
    const isSelected = photo === this.selected;
    const slots = isSelected ? this.slots.map((_, slot) => slot) : [0];
    const wanted = new Map(slots.map((slot) => [keyOf(this.optionsOf(slot)), slot]));
    for (const [key, reading] of photo.readings) {
      if (reading.isOpen && !wanted.has(key)) {
        this.queue.drop(reading);
        photo.readings.delete(key);
      }
    }
    if (!isSelected && photo.readings.size) return;
    for (const [key, slot] of wanted) {
      if (!photo.readings.has(key)) {
        const reading = new Reading(photo, this.optionsOf(slot));
        reading.addEventListener("change", () => this.dispatchEvent(new Event("progress")));
        photo.readings.set(key, reading);
        this.queue.add(reading);
      }
    }
  }
}

function keyOf(options) {
  return JSON.stringify(Object.entries(options).sort());
}
