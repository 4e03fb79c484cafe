// The photos of the session, small, each with its caption or how it stands.

import { button, element, iconButton } from "./dom.js";
import { percent } from "./formats.js";

export class Gallery {
  #session;
  #tiles = new Map(); // from a photo to its tile
  #list = element("ul.tiles");
  #count = element("span.small");
  #progress = element("progress", { "aria-label": "Photos captioned", max: "1", value: "0" });

  constructor(session, root) {
    this.#session = session;
    this.root = root;
    root.append(
      element(
        "div.gallery-head",
        {},
        element("h2", {}, "This session"),
        this.#count,
        button("Clear", { click: () => session.clear() }),
      ),
      this.#progress,
      this.#list,
      element("p.small", {}, "Kept in this tab alone; closing it forgets them."),
    );
  }

  /** Show the session's photos, in order. */
  update() {
    const { photos, selected } = this.#session;
    this.root.hidden = photos.length < 2;
    for (const photo of this.#tiles.keys()) {
      if (!photos.includes(photo)) this.#drop(photo);
    }
    for (const photo of photos) {
      if (!this.#tiles.has(photo)) this.#add(photo);
      this.#tiles.get(photo).update(photo === selected);
    }
    this.updateProgress();
  }

  /** Show how far all of them are. */
  updateProgress() {
    const { all, done } = this.#session.progress;
    this.#progress.hidden = done === all;
    this.#progress.max = Math.max(all, 1);
    this.#progress.value = done;
    this.#count.textContent = done === all ? `${all} photos` : `${done} of ${all} done`;
    for (const tile of this.#tiles.values()) tile.tell();
  }

  #add(photo) {
    const tile = new Tile(photo, this.#session);
    this.#tiles.set(photo, tile);
    this.#list.append(tile.root);
  }

  #drop(photo) {
    this.#tiles.get(photo).root.remove();
    this.#tiles.delete(photo);
  }
}

class Tile {
  #photo;
  #image = element("img", { alt: "" });
  #text = element("span.tile-text");
  #open;

  constructor(photo, session) {
    this.#photo = photo;
    this.#open = element(
      "button.tile",
      { type: "button", click: () => session.select(photo) },
      element("span.tile-image", {}, this.#image),
      this.#text,
    );
    this.root = element(
      "li",
      {},
      this.#open,
      iconButton(`Remove ${photo.name}`, "close", {
        class: "icon-only tile-remove",
        click: () => session.remove(photo),
      }),
    );
  }

  update(isSelected) {
    this.#image.hidden = !this.#photo.canBeShown;
    if (this.#photo.canBeShown && !this.#image.src) this.#image.src = this.#photo.url;
    if (isSelected) this.#open.setAttribute("aria-current", "true");
    else this.#open.removeAttribute("aria-current");
    this.tell();
  }

  tell() {
    const readings = [...this.#photo.readings.values()];
    const open = readings.find((reading) => reading.isOpen);
    const failed = readings.find((reading) => reading.state === "failed");
    this.#open.classList.toggle("failed", !open && failed !== undefined && !this.#photo.caption);
    this.#open.classList.toggle("open", open !== undefined);
    const text = this.#photo.caption ?? (open ? standing(open) : failed?.problem.title);
    this.#text.textContent = text ?? this.#photo.name;
  }
}

function standing(reading) {
  if (reading.state === "sending") return `Sending ${percent(reading.sent)}`;
  return reading.state === "computing" ? "Looking" : "Waiting";
}
