// Takes photos from wherever they come: dropped, pasted, chosen, or just taken.

/**
 * @param {(files: File[]) => void} take  told of the files
 * @param {(text: string) => void} refuse  told why nothing came
 */
export function takePhotos(take, refuse) {
  for (const input of document.querySelectorAll("input[type=file]")) {
    input.addEventListener("change", () => {
      take([...input.files]);
      input.value = ""; // so that the same file may be chosen again
    });
  }
  for (const opener of document.querySelectorAll("[data-opens]")) {
    const input = document.getElementById(opener.dataset.opens);
    opener.addEventListener("click", () => input.click());
  }
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) {
      event.preventDefault();
      take(files);
    }
  });
  takeDropped(take, refuse);
}

function takeDropped(take, refuse) {
  const veil = document.getElementById("veil");
  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  document.addEventListener("dragover", (event) => {
    event.preventDefault(); // else the browser leaves the page for the photo
    veil.hidden = !hasFiles(event);
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) veil.hidden = true;
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    veil.hidden = true;
    const items = [...(event.dataTransfer?.items ?? [])];
    if (items.some((item) => item.webkitGetAsEntry?.()?.isDirectory)) {
      refuse("A folder cannot be dropped. Open it and drop the photos in it.");
      return;
    }
    const files = [...(event.dataTransfer?.files ?? [])];
    if (files.length) take(files);
    else refuse("That was no file. Save the photo first, then drop the file.");
  });
}
