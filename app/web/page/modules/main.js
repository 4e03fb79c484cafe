// The page: puts the parts together, and hands each change of the session to them.

import { announce, notify } from "./announcer.js";
import { button } from "./dom.js";
import { Gallery } from "./gallery.js";
import { takePhotos } from "./intake.js";
import { keyDialog } from "./key_dialog.js";
import { OptionsPanel } from "./options_panel.js";
import { ReadingView } from "./reading_view.js";
import { listModels } from "./service.js";
import { MAX_PHOTOS, Session } from "./session.js";

const welcome = document.getElementById("welcome");
const desk = document.getElementById("desk");
const readings = document.getElementById("readings");

const session = new Session();
const options = new OptionsPanel(session);
const gallery = new Gallery(session, document.getElementById("gallery"));
const views = [];

const enterKey = keyDialog({
  entered: () => {
    learnModels();
    session.retryRefused();
    session.queue.resume();
  },
  refused: () => session.queue.giveUp(),
});

const compare = button("Compare", { icon: "compare", click: addSecond });
const settings = button("Options", {
  icon: "options",
  "aria-expanded": "false",
  "aria-controls": "options",
  click: () => {
    options.root.hidden = !options.root.hidden;
    settings.setAttribute("aria-expanded", String(!options.root.hidden));
  },
});

/** Put another model beside the first: the one after it in the list. */
function addSecond() {
  const names = session.models.map((model) => model.name);
  const first = session.slots[0] ?? session.modelOf(null)?.name;
  const next = names[(names.indexOf(first) + 1) % names.length];
  session.choose(1, next ?? null);
}

async function learnModels() {
  try {
    session.learn(await listModels());
  } catch {
    // The default model answers all the same, and what is wrong is said when a photo is sent.
  }
}

function update() {
  const isEmpty = session.photos.length === 0;
  welcome.hidden = !isEmpty;
  desk.hidden = isEmpty;
  document.getElementById("add").hidden = isEmpty;
  compare.hidden = session.models.length < 2 || session.slots.length > 1;
  options.update();
  gallery.update();
  while (views.length > (isEmpty ? 0 : session.slots.length)) views.pop().end();
  while (views.length < (isEmpty ? 0 : session.slots.length)) addView();
  readings.classList.toggle("side-by-side", views.length > 1);
  for (const view of views) view.update();
}

function addView() {
  const slot = views.length;
  const view = new ReadingView(session, slot, {
    enterKey,
    tools: slot === 0 ? [compare, settings] : [],
    close: slot > 0 ? () => { session.close(slot); compare.focus(); } : null,
  });
  views.push(view);
  readings.append(view.root);
}

function take(files) {
  announce(`Captioning ${files.length === 1 ? files[0].name : `${files.length} photos`}`);
  const left = session.add(files);
  if (left) {
    notify(
      `The gallery holds ${MAX_PHOTOS} photos; ${left} were left out. Clear it for more, or use `
        + "glimpse bulk for whole folders.",
    );
  }
  scrollTo({ top: 0 });
}

/** Arrow keys lead into the sentence from anywhere that has no use of its own for them. */
function leadToWords(event) {
  const isArrow = event.key === "ArrowRight" || event.key === "ArrowLeft";
  const isFree = document.activeElement === document.body;
  if (!isArrow || !isFree || event.altKey || event.ctrlKey || event.metaKey) return;
  if (views[0]?.enter(event.key === "ArrowLeft")) event.preventDefault();
}

desk.insertBefore(options.root, readings);
session.addEventListener("change", update);
session.addEventListener("progress", () => gallery.updateProgress());
session.queue.addEventListener("key-needed", enterKey);
document.addEventListener("keydown", leadToWords);
takePhotos(take, notify);
update();
learnModels();
document.documentElement.dataset.ready = "true";
