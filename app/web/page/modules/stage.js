// The photo, and over it the light of a word. Knows no words.

import { element } from "./dom.js";
import { spreadMap } from "./heat.js";

const CANVAS_SIDE = 256; // maps are smooth: the browser scales them up without a step to be seen
const FADE_MILLISECONDS = 260;
const DUSK = { color: [12, 15, 26], opacity: 0.64 };
const LIGHT = { color: [255, 196, 96], opacity: 0.16 };
const COLORS = heatColors();

const stillness = matchMedia("(prefers-reduced-motion: reduce)");

/** The photo of a reading, with a canvas of exactly its size over it. */
export class Stage {
  #canvas = element("canvas.light", { "aria-hidden": "true" });
  #context = this.#canvas.getContext("2d", { willReadFrequently: true }); // drawn pixel by pixel
  #picture;
  #place = null; // where the maps of the shown answer lie
  #heats = new WeakMap(); // from a word's map to its heat
  #from = null;
  #to = null; // the heat that is shown, or faded to; null is the bare photo
  #mixed = null; // what was drawn last: a fade that is cut short begins there
  #visible = 0; // how much of the light is seen, 0 to 1
  #frame = 0;

  /** @param {import("./photo.js").Photo} photo */
  constructor(photo) {
    this.#picture = photo.canBeShown
      ? element("img.photo", { src: photo.url, alt: "", width: photo.width, height: photo.height })
      : element("div.no-photo", {}, element("b", {}, photo.name), "This browser cannot show it.");
    this.figure = element("figure.stage", {}, this.#picture, this.#canvas);
    this.figure.classList.toggle("without-photo", !photo.canBeShown);
    if (photo.canBeShown) this.#shape(photo.width, photo.height);
    this.#canvas.hidden = true;
  }

  /** Say what the photo shows, for those who do not see it. */
  describe(text) {
    if (this.#picture instanceof HTMLImageElement) this.#picture.alt = text;
  }

  /**
   * Say where maps lie from now on.
   * @param {number[]} box  in pixels of the photo
   * @param {{width: number, height: number}} photo  its size in the same pixels
   */
  place(box, photo) {
    const scale = CANVAS_SIDE / Math.max(photo.width, photo.height);
    const size = {
      width: Math.max(1, Math.round(photo.width * scale)),
      height: Math.max(1, Math.round(photo.height * scale)),
    };
    Object.assign(this.#canvas, size);
    this.#canvas.hidden = !(this.#picture instanceof HTMLImageElement);
    this.#place = { size, box, photo };
    this.#heats = new WeakMap();
    this.#visible = 0;
    this.#to = null;
  }

  /** Show the drawing that the service made, where the browser cannot show the photo itself. */
  replace(url, alt) {
    const drawing = element("img.photo", { src: url, alt });
    this.#picture.replaceWith(drawing);
    this.#picture = drawing;
    this.figure.classList.remove("without-photo");
    this.#canvas.hidden = true;
    drawing.addEventListener("load", () => (
      this.#shape(drawing.naturalWidth, drawing.naturalHeight)
    ));
  }

  /** Fade to the light of a map; null is the bare photo. */
  show(alpha) {
    if (!this.#place || this.#canvas.hidden) return;
    const heat = alpha ? this.#heatOf(alpha) : null;
    if (heat === this.#to) return;
    this.#from = this.#visible > 0 ? this.#mixed : heat;
    this.#to = heat;
    this.figure.classList.toggle("lit", heat !== null);
    this.#fade(heat ? 1 : 0);
  }

  /** Stop drawing; the stage leaves the page. */
  end() {
    cancelAnimationFrame(this.#frame);
  }

  #shape(width, height) {
    this.figure.style.setProperty("--ratio", String(width / height));
  }

  #heatOf(alpha) {
    const { size, box, photo } = this.#place;
    if (!this.#heats.has(alpha)) this.#heats.set(alpha, spreadMap(alpha, size, box, photo));
    return this.#heats.get(alpha);
  }

  #fade(goal) {
    cancelAnimationFrame(this.#frame);
    const start = this.#visible;
    const from = this.#from ?? this.#mixed;
    const to = this.#to ?? from;
    const duration = stillness.matches ? 0 : FADE_MILLISECONDS;
    let began = null;
    const step = (now) => {
      began ??= now;
      const passed = duration ? Math.min((now - began) / duration, 1) : 1;
      const eased = passed * (2 - passed);
      this.#visible = start + (goal - start) * eased;
      this.#draw(from, to, eased);
      if (passed < 1) this.#frame = requestAnimationFrame(step);
    };
    this.#frame = requestAnimationFrame(step);
  }

  #draw(from, to, share) {
    const { width, height } = this.#canvas;
    const pixels = this.#context.createImageData(width, height);
    const mixed = new Float32Array(to.length);
    for (let index = 0; index < to.length; index += 1) {
      const heat = from[index] + (to[index] - from[index]) * share;
      mixed[index] = heat;
      const color = Math.round(heat * 255) * 4;
      pixels.data[index * 4] = COLORS[color];
      pixels.data[index * 4 + 1] = COLORS[color + 1];
      pixels.data[index * 4 + 2] = COLORS[color + 2];
      pixels.data[index * 4 + 3] = COLORS[color + 3] * this.#visible;
    }
    this.#mixed = mixed;
    this.#context.putImageData(pixels, 0, 0);
  }
}

/** From heat, 0 to 255, to red, green, blue and opacity: dusk where it is cold, warm light else. */
function heatColors() {
  const colors = new Uint8ClampedArray(256 * 4);
  for (let step = 0; step < 256; step += 1) {
    const heat = step / 255;
    const cold = DUSK.opacity * (1 - heat);
    const warm = LIGHT.opacity * heat;
    for (const channel of [0, 1, 2]) {
      colors[step * 4 + channel] = (
        (DUSK.color[channel] * cold + LIGHT.color[channel] * warm) / (cold + warm)
      );
    }
    colors[step * 4 + 3] = (cold + warm) * 255;
  }
  return colors;
}
