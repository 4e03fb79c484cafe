// Asks for the API key, where the service needs one.

import { readKey, writeKey } from "./key.js";

const PRINTABLE = /^[\x21-\x7e]+$/; // what a header can carry

/**
 * @param {{entered: () => void, refused: () => void}} told  of what the person does
 * @returns {() => void} opens the dialog
 */
export function keyDialog(told) {
  const dialog = document.getElementById("key-dialog");
  const form = dialog.querySelector("form");
  const input = form.querySelector("input");
  const complaint = form.querySelector(".complaint");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const key = input.value.trim();
    if (!PRINTABLE.test(key)) {
      complaint.textContent = "A key has letters, digits and signs, without spaces.";
      return;
    }
    writeKey(key);
    dialog.close("entered");
  });
  form.querySelector("[data-cancel]").addEventListener("click", () => dialog.close("refused"));
  dialog.addEventListener("close", () => {
    input.value = "";
    if (dialog.returnValue === "entered") told.entered();
    else told.refused();
  });
  return () => {
    if (dialog.open) return;
    complaint.textContent = readKey() ? "The key that was entered is not good." : "";
    writeKey("");
    dialog.returnValue = "refused"; // what Escape leaves
    dialog.showModal();
  };
}
