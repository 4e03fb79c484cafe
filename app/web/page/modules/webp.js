// The one thing that browsers leave undone: Chromium does not turn a WebP as its EXIF block asks.

const ORIENTATION = 0x0112;
const UPRIGHT = 1;

/**
 * Whether the file is a WebP that is stored other than upright.
 * @param {Blob} file
 */
export async function isTurnedWebp(file) {
  const head = new DataView(await file.slice(0, 12).arrayBuffer());
  if (head.byteLength < 12 || text(head, 0) !== "RIFF" || text(head, 8) !== "WEBP") return false;
  const exif = exifOf(new DataView(await file.arrayBuffer()));
  return exif !== null && orientationOf(exif) !== UPRIGHT;
}

/** The EXIF chunk of a WebP, without the name that some writers put before it. */
function exifOf(webp) {
  for (let at = 12; at + 8 <= webp.byteLength;) {
    const length = webp.getUint32(at + 4, true);
    if (text(webp, at) === "EXIF") {
      const end = Math.min(at + 8 + length, webp.byteLength);
      const begin = end - at > 14 && text(webp, at + 8) === "Exif" ? at + 14 : at + 8;
      return new DataView(webp.buffer, begin, end - begin);
    }
    at += 8 + length + (length % 2);
  }
  return null;
}

/** The orientation in a TIFF header's first directory; upright where there is none to be read. */
function orientationOf(tiff) {
  try {
    const isLittle = tiff.getUint16(0) === 0x4949;
    const directory = tiff.getUint32(4, isLittle);
    const count = tiff.getUint16(directory, isLittle);
    for (let entry = 0; entry < count; entry += 1) {
      const at = directory + 2 + entry * 12;
      if (tiff.getUint16(at, isLittle) === ORIENTATION) return tiff.getUint16(at + 8, isLittle);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // it ends early: damaged
  }
  return UPRIGHT;
}

function text(view, at) {
  return String.fromCharCode(...[0, 1, 2, 3].map((index) => view.getUint8(at + index)));
}
