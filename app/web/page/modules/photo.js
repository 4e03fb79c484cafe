// A photo of the session, as a browser can show it. Knows no service.

import { isTurnedWebp } from "./webp.js";

const MAX_SIDE_PIXELS = 1800;

let count = 0;

/** A file that was given, a picture of it, and what models said of it. */
export class Photo {
  #isForgotten = false;

  /** @param {File} file */
  constructor(file) {
    count += 1;
    this.id = `photo-${count}`;
    this.file = file;
    this.name = file.name || "photo";
    this.isLoaded = false; // or known to be none that the browser can show
    this.url = null;
    this.width = 0; // of the file, upright, in pixels
    this.height = 0;
    this.readings = new Map();
  }

  /** Whether this browser can show it; HEIC and TIFF it mostly cannot. */
  get canBeShown() {
    return this.url !== null;
  }

  /** The best caption that a model gave last; null where none has yet. */
  get caption() {
    const done = [...this.readings.values()].filter((reading) => reading.answer);
    return done.length ? done.at(-1).answer.caption : null;
  }

  /**
   * Make what is shown: upright, still, on white, as the model sees it, and no larger than a
   * screen, so that many photos find room in memory. What the browser cannot show so stays without.
   */
  async load() {
    if (this.#isForgotten) return;
    try {
      if (!await isTurnedWebp(this.file)) await this.#draw(await createImageBitmap(this.file));
    } catch {
      // no picture: the page says so
    }
    this.isLoaded = true;
  }

  async #draw(bitmap) {
    const scale = Math.min(1, MAX_SIDE_PIXELS / Math.max(bitmap.width, bitmap.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(bitmap.width * scale));
    canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.fillStyle = "white";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    [this.width, this.height] = [bitmap.width, bitmap.height];
    bitmap.close();
    const blob = await new Promise((done) => { canvas.toBlob(done, "image/jpeg", 0.92); });
    if (blob && !this.#isForgotten) this.url = URL.createObjectURL(blob);
  }

  /**
   * Whether the browser shows what the model saw: the same size, and so turned the same way.
   * @param {{width: number, height: number}} image  what the answer says of it
   */
  matches(image) {
    return this.canBeShown && this.width === image.width && this.height === image.height;
  }

  /** Give up what it holds. */
  forget() {
    this.#isForgotten = true;
    for (const reading of this.readings.values()) reading.abandon();
    if (this.url) URL.revokeObjectURL(this.url);
  }
}
