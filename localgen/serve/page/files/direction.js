// The direction of a text, by its first letter. Browsers find it too ("dir=auto"), but look through a whole
// block again for each node that is added to it.
const LETTER = /\p{L}/u;
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;

// Gives a node the direction of its text, once it has a letter.
export function setDirection(node) {
  const letter = node.dir ? null : node.textContent.match(LETTER);
  if (letter) node.dir = RIGHT_TO_LEFT.test(letter[0]) ? "rtl" : "ltr";
}
