// The colour and dash of a portfolio's line. Pure.
//
// Both derive from the name alone, so a portfolio looks the same on every day, on every computer and
// beside any other portfolios. Two names can share a colour; then their dashes mostly differ.

export const COLOURS = 12; // --c0 to --c11 in style.css, for light and dark
const DASHES = [[], [7, 3], [2, 3]];

// FNV-1a. Its usual offset basis plus 121 gives the demo's nine portfolios nine colours.
const BASIS = 2_166_136_382;
const PRIME = 16_777_619;

function hash(name) {
  let value = BASIS;
  for (const byte of new TextEncoder().encode(name)) value = Math.imul(value ^ byte, PRIME);
  value = Math.imul(value ^ ((value >>> 0) >>> 15), 0x2c1b3c6d);
  return (value ^ ((value >>> 0) >>> 12)) >>> 0;
}

/** Return the number of a portfolio's colour, 0 to 11, and the dash of its line. */
export function lineOf(name) {
  const value = hash(name);
  return { colour: value % COLOURS, dash: DASHES[Math.floor(value / COLOURS) % DASHES.length] };
}
