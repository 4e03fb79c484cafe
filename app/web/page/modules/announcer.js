// Says things in passing: to screen readers always, and to eyes where they could not see it.

const SECONDS = 6;

const region = document.getElementById("said");
const notice = document.getElementById("notice");
let timer = 0;

/** Tell screen readers. */
export function announce(text) {
  region.textContent = text;
}

/** Tell everyone, for a while. */
export function notify(text) {
  announce(text);
  notice.textContent = text;
  notice.hidden = false;
  clearTimeout(timer);
  timer = setTimeout(() => { notice.hidden = true; }, SECONDS * 1000);
}
