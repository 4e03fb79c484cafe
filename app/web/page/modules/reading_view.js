// One place on the page: a model, the photo, and what the model says of it.

import { announce } from "./announcer.js";
import { AnswerView } from "./answer_view.js";
import { element, iconButton } from "./dom.js";
import { ModelPicker } from "./model_picker.js";
import { drawMaps } from "./service.js";
import { Stage } from "./stage.js";
import { ProgressView, problemView } from "./standing_view.js";

export class ReadingView {
  #session;
  #slot;
  #enterKey;
  #picker;
  #stage = null;
  #staged = null; // the photo on the stage, and whether it was loaded
  #reading = null;
  #answerView = null;
  #progress = new ProgressView();
  #stageHolder = element("div.stage-holder");
  #body = element("div.reading-body");
  #onChange = () => this.#showReading();

  /**
   * @param {import("./session.js").Session} session
   * @param {number} slot  which of the models side by side
   * @param {object} about
   * @param {() => void} about.enterKey  asks the person for the key
   * @param {() => void} [about.close]  takes this place away
   * @param {HTMLElement[]} [about.tools]  stand beside the model
   */
  constructor(session, slot, { enterKey, close = null, tools = [] }) {
    this.#session = session;
    this.#slot = slot;
    this.#enterKey = enterKey;
    this.#picker = new ModelPicker(session, slot);
    const closer = close && iconButton("Take this model away", "close", { click: close });
    this.root = element(
      "section.reading",
      { "aria-label": slot === 0 ? "Caption" : "Second caption" },
      element(
        "div.reading-head",
        {},
        this.#picker.root,
        element("div.tools", {}, ...tools, closer),
      ),
      this.#stageHolder,
      this.#body,
    );
  }

  /** Show what the session has for this place now. */
  update() {
    this.#picker.update();
    const photo = this.#session.selected;
    this.#showPhoto(photo);
    const reading = this.#session.readingOf(photo, this.#slot) ?? null;
    if (reading === this.#reading) return;
    this.#reading?.removeEventListener("change", this.#onChange);
    this.#reading = reading;
    reading?.addEventListener("change", this.#onChange);
    this.#showReading();
  }

  /** Put the focus on the first word, or on the last; false where there is none yet. */
  enter(fromEnd) {
    this.#answerView?.enter(fromEnd);
    return this.#answerView !== null;
  }

  /** Stop what runs by itself; the view leaves the page. */
  end() {
    this.#reading?.removeEventListener("change", this.#onChange);
    this.#endAnswer();
    this.#stage?.end();
    this.root.remove();
  }

  #showPhoto(photo) {
    if (this.#staged?.photo === photo && this.#staged.isLoaded === photo.isLoaded) return;
    this.#staged = { photo, isLoaded: photo.isLoaded };
    this.#stage?.end();
    this.#stage = photo.isLoaded ? new Stage(photo) : null;
    this.#stageHolder.replaceChildren(this.#stage?.figure ?? element("div.stage-empty"));
    if (this.#reading?.photo === photo) this.#placeAnswer();
  }

  #showReading() {
    this.#endAnswer();
    const reading = this.#reading;
    if (reading?.answer) {
      this.#showAnswer(reading);
      return;
    }
    this.#stage?.show(null);
    const standing = this.#standing(reading);
    if (standing === null) this.#body.replaceChildren();
    else if (this.#body.firstChild !== standing) this.#body.replaceChildren(standing);
  }

  #standing(reading) {
    if (!reading) return null;
    if (reading.problem) {
      return problemView(reading, {
        retry: () => (reading.isOpen ? this.#session.queue.hurry() : this.#session.retry(reading)),
        giveUp: () => this.#session.queue.giveUp(),
        enterKey: this.#enterKey,
        choose: () => document.getElementById("choose").click(),
        remove: () => this.#session.remove(reading.photo),
      });
    }
    const model = this.#session.modelOf(this.#session.slots[this.#slot]);
    this.#progress.tell(reading, model?.loaded ?? true);
    return this.#progress.root; // always the same: its animation goes on
  }

  #showAnswer(reading) {
    this.#answerView = new AnswerView(reading, (alpha) => this.#stage?.show(alpha));
    this.#body.replaceChildren(this.#answerView.root);
    this.#placeAnswer();
    announce(`${reading.answer.model.name}: ${reading.answer.caption}`);
  }

  /** Tell the stage where the maps lie; a photo that it cannot show as the model saw it, it
   * shows as the service drew it. */
  #placeAnswer() {
    const answer = this.#reading?.answer;
    if (!answer || !this.#stage) return;
    const { photo } = this.#reading;
    this.#stage.describe(answer.caption);
    if (photo.matches(answer.image)) this.#stage.place(answer.grid.box, answer.image);
    else this.#drawInstead(this.#reading, this.#stage);
  }

  async #drawInstead(reading, stage) {
    const { num_captions: _, ...options } = reading.options;
    try {
      const blob = await drawMaps(reading.photo.file, options);
      stage.replace(URL.createObjectURL(blob), `${reading.answer.caption}: the photo and its maps`);
    } catch {
      // the caption is there; the photo stays unseen
    }
  }

  #endAnswer() {
    this.#answerView?.end();
    this.#answerView = null;
  }
}
