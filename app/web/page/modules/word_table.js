// Every number of a caption's words, as a table.

import { element } from "./dom.js";
import { percent } from "./formats.js";
import { describePlace } from "./heat.js";

/**
 * @param {object[]} words  as the service gives them
 * @param {boolean} isCalibrated  whether confidences are about people
 * @param {string} maps  what the maps are in this model
 */
export function wordTable(words, isCalibrated, maps) {
  const heads = ["Word", "Confidence", "Probability", "Gate", "Looked"];
  const rows = words.map((word) => element(
    "tr",
    {},
    element("th", { scope: "row" }, word.word),
    element("td", {}, bar(word.confidence), percent(word.confidence)),
    element("td.number", {}, percent(word.probability)),
    element("td", {}, bar(word.beta), word.beta.toFixed(2)),
    element("td.place", {}, describePlace(word.alpha)),
  ));
  return element(
    "div.word-table",
    {},
    element(
      "div.scrollable",
      { tabindex: "0", role: "group", "aria-label": "The numbers of each word" },
      element(
        "table",
        {},
        element("thead", {}, element("tr", {}, ...heads.map((head) => (
          element("th", { scope: "col" }, head)
        )))),
        element("tbody", {}, ...rows),
      ),
    ),
    element("p.small", {}, explanation(isCalibrated), ` The maps are ${maps}.`),
  );
}

function explanation(isCalibrated) {
  const confidence = isCalibrated
    ? "Confidence: how likely a person who describes this photo uses the word."
    : "Confidence: this model’s own probability, as it was not fitted to what people say.";
  return `${confidence} Probability: of the word after those before it. Gate: how much the photo `
    + "counted for it, from 0 to 1.";
}

function bar(fraction) {
  const made = element("span.bar", { "aria-hidden": "true" });
  made.style.setProperty("--share", String(fraction));
  return made;
}
