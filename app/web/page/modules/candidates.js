// The captions that came close, best first; the chosen one is the sentence that is shown.

import { element } from "./dom.js";
import { percent } from "./formats.js";

/**
 * @param {object[]} captions  as the service gives them
 * @param {(rank: number) => void} choose  told which one was chosen
 */
export function candidateList(captions, choose) {
  const buttons = captions.map((caption, rank) => element(
    "button.candidate",
    {
      type: "button",
      "aria-pressed": String(rank === 0),
      click: () => {
        buttons.forEach((each, index) => each.setAttribute("aria-pressed", String(index === rank)));
        choose(rank);
      },
    },
    element("span.candidate-text", {}, caption.text || "(no words)"),
    element("span.number", {}, percent(caption.confidence)),
  ));
  return element(
    "section.candidates",
    {},
    element("h2", {}, `${captions.length} best`),
    element("ol", {}, ...buttons.map((each) => element("li", {}, each))),
  );
}
