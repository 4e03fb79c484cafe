// How a reading stands that has no answer yet: on its way, waiting, or failed.

import { button, element } from "./dom.js";
import { percent } from "./formats.js";

const OF_THE_PHOTO = new Set([400, 413, 415, 422]);
const USUAL_SECONDS = 4;

/** The place of a sentence that is still to come. */
export class ProgressView {
  #text = element("p.standing");
  #timer = 0;

  constructor() {
    const words = [element("span"), element("span"), element("span")];
    const skeleton = element("div.skeleton", { "aria-hidden": "true" }, ...words);
    this.root = element("div.pending", {}, skeleton, this.#text);
  }

  /**
   * @param {import("./reading.js").Reading} reading
   * @param {boolean} isModelLoaded  whether the model is in the service's memory already
   */
  tell(reading, isModelLoaded) {
    const write = () => {
      this.#text.textContent = wordsFor(reading, isModelLoaded);
    };
    write();
    clearInterval(this.#timer);
    this.#timer = setInterval(() => {
      if (this.root.isConnected) write();
      else clearInterval(this.#timer);
    }, 1000);
  }
}

function wordsFor(reading, isModelLoaded) {
  if (reading.state === "waiting") return "Waiting for its turn";
  if (reading.state === "sending") return `Sending the photo: ${percent(reading.sent)}`;
  const now = isModelLoaded ? "Looking" : "Loading the model, then looking";
  const seconds = Math.floor((Date.now() - reading.lastAsked) / 1000);
  return seconds < USUAL_SECONDS ? now : `${now}: ${seconds} seconds so far, longer than usual`;
}

/**
 * A problem, and what can be done about it.
 * @param {import("./reading.js").Reading} reading
 * @param {Record<"retry"|"giveUp"|"enterKey"|"choose"|"remove", () => void>} can
 */
export function problemView(reading, can) {
  const { problem, heldUntil } = reading;
  const isHeld = reading.isOpen && heldUntil !== null;
  const children = [
    element("h2", {}, problem.title),
    element("p", {}, problem.detail),
  ];
  if (isHeld) {
    const silent = { role: "timer", "aria-live": "off" };
    children.push(element("p.countdown", silent, ...countdown(heldUntil)));
  }
  children.push(element("div.actions", {}, ...remedies(problem, isHeld, can)));
  if (problem.request) {
    children.push(element(
      "p.small",
      {},
      "For whoever runs this service: request ",
      element("code", {}, problem.request),
    ));
  }
  return element("section.problem", { role: isHeld ? "status" : "alert" }, ...children);
}

/** The buttons that may help. What is wrong with the photo itself stays so: another may do. */
function remedies(problem, isHeld, can) {
  const strong = { class: "strong" };
  if (problem.status === 401) return [button("Enter the key", { ...strong, click: can.enterKey })];
  if (isHeld) {
    return [
      button("Try now", { ...strong, click: can.retry }),
      button("Stop trying", { click: can.giveUp }),
    ];
  }
  if (OF_THE_PHOTO.has(problem.status)) {
    return [
      button("Choose another", { ...strong, click: can.choose }),
      button("Remove it", { click: can.remove }),
    ];
  }
  return [button("Try again", { ...strong, click: can.retry })];
}

/** The text that counts down, by itself, while it is on the page. */
function countdown(until) {
  const number = element("b", {});
  const write = () => {
    const seconds = Math.max(0, Math.ceil((until - Date.now()) / 1000));
    number.textContent = seconds === 1 ? "1 second" : `${seconds} seconds`;
  };
  write();
  const timer = setInterval(() => {
    if (number.isConnected) write();
    else clearInterval(timer);
  }, 500);
  return ["Trying again in ", number, "."];
}
