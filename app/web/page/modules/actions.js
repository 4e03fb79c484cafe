// What one may take away of an answer: its text, in several forms, and the drawing of its maps.

import { announce, notify } from "./announcer.js";
import { copyText, download } from "./clipboard.js";
import { button, element } from "./dom.js";
import { altAttribute, answerAsJson, curlLine } from "./formats.js";
import { readKey } from "./key.js";
import { addressOf, drawMaps } from "./service.js";

const SHOWN_MILLISECONDS = 1600;

/**
 * The buttons of an answer.
 * @param {import("./reading.js").Reading} reading  a done one
 * @param {() => string} text  the caption that is shown
 * @param {HTMLElement} play  the button that plays it
 */
export function actionRow(reading, text, play) {
  return element(
    "div.actions",
    {},
    play,
    element(
      "span.copies",
      { role: "group", "aria-label": "Copy the caption" },
      copyButton("Copy text", text, "copy"),
      copyButton("alt", () => altAttribute(text())),
      copyButton("JSON", () => answerAsJson(reading.answer)),
    ),
    drawingButton(reading),
  );
}

/** The command line that asks the same. */
export function curlSection(reading) {
  const url = new URL(addressOf(reading.options), document.baseURI).href;
  const line = () => curlLine(reading.photo.name, url, readKey() !== "");
  const code = element("code", { tabindex: "0" }, line());
  return element(
    "details.curl",
    {},
    element("summary", {}, "The same with curl"),
    element("div.code", {}, code, copyButton("Copy", line, "copy")),
    element(
      "p.small",
      {},
      "In the folder of the photo. ",
      readKey() ? "GLIMPSE_KEY is a variable of the shell that holds your key. " : "",
      "Add ", element("code", {}, "format=png"), " for the drawing.",
    ),
  );
}

function copyButton(label, text, icon = null) {
  const made = button(label, {
    icon,
    click: async () => {
      try {
        await copyText(text());
      } catch {
        notify("The browser does not let this page copy. Select the text instead.");
        return;
      }
      announce("Copied");
      made.lastChild.textContent = "Copied";
      made.classList.add("done");
      setTimeout(() => {
        made.lastChild.textContent = label;
        made.classList.remove("done");
      }, SHOWN_MILLISECONDS);
    },
  });
  return made;
}

function drawingButton(reading) {
  const made = button("Overlay", {
    icon: "download",
    click: async () => {
      made.disabled = true;
      try {
        const { num_captions: _, ...options } = reading.options;
        const name = reading.photo.name.replace(/\.[^.]*$/, "") || "photo";
        download(await drawMaps(reading.photo.file, options), `${name}-overlay.png`);
        announce("The drawing is saved");
      } catch (problem) {
        notify(`${problem.title}. ${problem.detail}`);
      }
      made.disabled = false;
    },
  });
  made.title = "The maps of the best caption, drawn over the photo, as PNG";
  return made;
}
