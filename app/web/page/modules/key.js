// The API key, where the service asks for one. It is kept until the tab is closed, and goes nowhere
// but into the header of requests to this service.

const NAME = "glimpse-key";
let kept = "";

/** The key, or an empty text. */
export function readKey() {
  try {
    return sessionStorage.getItem(NAME) ?? kept;
  } catch { // a browser that stores nothing: the page remembers it
    return kept;
  }
}

/** Keep a key; an empty text forgets it. */
export function writeKey(key) {
  kept = key;
  try {
    if (key) sessionStorage.setItem(NAME, key);
    else sessionStorage.removeItem(NAME);
  } catch {
    // `kept` has it
  }
}
