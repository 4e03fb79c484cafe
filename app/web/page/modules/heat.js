// From a word's map to how bright each point of the photo is. Pure: knows no page.
//
// It is what the service draws (models/rendering.py, upsample_alpha), so that the page and the
// downloaded drawing show the same: each cell spreads as a Gaussian around its center, and contrast
// is stretched to 0..1, less so the flatter a map is; an even map is 0.5 everywhere.

const SIGMA_CELLS = 0.6;
const FULL_CONTRAST_RATIO = 3;

/**
 * Spread a map over a photo.
 * @param {number[][]} alpha  rows by columns, not negative
 * @param {{width: number, height: number}} size  of the result
 * @param {number[]} box  left, top, right, bottom of the map, in pixels of the photo
 * @param {{width: number, height: number}} photo  in the same pixels
 * @returns {Float32Array} height * width values in [0, 1], row by row
 */
export function spreadMap(alpha, size, box, photo) {
  const [left, top, right, bottom] = box;
  const rows = alpha.length;
  const columns = alpha[0].length;
  const across = weigh(size.width, photo.width, left, right, columns);
  const down = weigh(size.height, photo.height, top, bottom, rows);
  const heat = new Float32Array(size.width * size.height);
  const line = new Float64Array(columns);
  for (let y = 0; y < size.height; y += 1) {
    for (let column = 0; column < columns; column += 1) {
      line[column] = 0;
      for (let row = 0; row < rows; row += 1) line[column] += down[y][row] * alpha[row][column];
    }
    for (let x = 0; x < size.width; x += 1) {
      let sum = 0;
      for (let column = 0; column < columns; column += 1) sum += across[x][column] * line[column];
      heat[y * size.width + x] = sum;
    }
  }
  return stretch(heat, contrastOf(alpha));
}

/**
 * Say in words where a map is brightest: "upper left", "center"; "all over" if it is nearly even.
 * @param {number[][]} alpha
 */
export function describePlace(alpha) {
  if (contrastOf(alpha) < 0.1) return "all over";
  const rows = alpha.length;
  const columns = alpha[0].length;
  const cells = { width: columns, height: rows };
  const heat = spreadMap(alpha, cells, [0, 0, columns, rows], cells);
  const brightest = heat.indexOf(heat.reduce((most, value) => Math.max(most, value)));
  const row = Math.floor((Math.floor(brightest / columns) / rows) * 3);
  const column = Math.floor(((brightest % columns) / columns) * 3);
  if (row === 1) return ["left", "center", "right"][column];
  return `${["upper", "", "lower"][row]} ${["left", "middle", "right"][column]}`;
}

/** How much each cell counts at each pixel of an axis; the weights of a pixel sum to 1. */
function weigh(pixels, photoPixels, begin, end, cells) {
  return Array.from({ length: pixels }, (_, pixel) => {
    const place = (((pixel + 0.5) / pixels) * photoPixels - begin) / (end - begin);
    const inside = Math.min(Math.max(place, 0), 1) * cells; // a rim continues the edge
    const weights = Array.from({ length: cells }, (__, cell) => (
      Math.exp(-0.5 * ((inside - cell - 0.5) / SIGMA_CELLS) ** 2)
    ));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return weights.map((weight) => weight / sum);
  });
}

/** From 0, an even map, to 1: its peak is three times the mean, or more. */
function contrastOf(alpha) {
  const cells = alpha.flat();
  const mean = cells.reduce((sum, cell) => sum + cell, 0) / cells.length;
  const ratio = mean > 0 ? Math.max(...cells) / mean : 1;
  return Math.min(Math.max((ratio - 1) / (FULL_CONTRAST_RATIO - 1), 0), 1);
}

function stretch(heat, contrast) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of heat) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  const range = high - low;
  const isEven = range <= 1e-6 * Math.abs(high);
  return heat.map((value) => (
    isEven ? 0.5 : 0.5 + contrast * ((value - low) / range - 0.5)
  ));
}
