"use strict";

// Reads the frame marker of the model `simulated`; the layout is described in
// model_actor/models/simulated/marker.py.

const COLUMNS = 16, ROWS = 5, ACROSS = 40, DOWN = 22, LEAST_CONTRAST = 48;

/**
 * Reads the marker of a luma plane.
 * @param {Uint8Array} luma Its rows, one after the other; the upper left part is enough.
 * @param {number} stride Bytes from row to row.
 * @param {number} width Width of the whole picture.
 * @param {number} height Height of the whole picture.
 * @returns {{frame: number, run: number}|null} Null where there is none, or a damaged one.
 */
function readMarker(luma, stride, width, height) {
  const cells = [];
  for (let row = 0; row < ROWS; row++)
    for (let column = 0; column < COLUMNS; column++)
      cells.push(meanOf(luma, stride, (column + 1.25) * width / ACROSS, (row + 1.25) * height / DOWN,
                        width / ACROSS / 2, height / DOWN / 2));
  const white = cells.slice(0, COLUMNS).filter((_, column) => column % 2 === 0);
  const black = cells.slice(0, COLUMNS).filter((_, column) => column % 2 === 1);
  if (Math.min(...white) - Math.max(...black) < LEAST_CONTRAST) return null;
  const mean = (values) => values.reduce((sum, value) => sum + value) / values.length;
  const threshold = (mean(white) + mean(black)) / 2;
  const bytes = new Uint8Array(8);
  cells.slice(COLUMNS).forEach((cell, bit) => {
    if (cell > threshold) bytes[bit >> 3] |= 0x80 >> (bit & 7);
  });
  if (crc8(bytes) !== 0) return null;
  return { frame: new DataView(bytes.buffer).getUint32(0), run: bytes[4] };
}

/** Returns the mean of a rectangle of a plane. */
function meanOf(plane, stride, left, top, width, height) {
  const [x, y] = [Math.round(left), Math.round(top)];
  const [w, h] = [Math.max(1, Math.round(width)), Math.max(1, Math.round(height))];
  let sum = 0;
  for (let row = y; row < y + h; row++)
    for (let column = x; column < x + w; column++) sum += plane[row * stride + column];
  return sum / (w * h);
}

/** Returns the CRC-8 (polynomial 0x07); 0 over data that ends in its own CRC. */
function crc8(data) {
  let value = 0;
  for (const byte of data) {
    value ^= byte;
    for (let bit = 0; bit < 8; bit++) value = ((value << 1) ^ (value & 0x80 ? 0x107 : 0)) & 0x1ff;
  }
  return value;
}
