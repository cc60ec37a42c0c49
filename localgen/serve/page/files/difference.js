// Where two texts differ first, by words.

// Returns {isSame, nSameWords, left, right}; left and right are the [start, end) of the first word
// that differs in each text, or null while that is not known. A text that ends where the other one
// goes on has an empty range at its end. isEnded: whether both texts are complete.
export function firstDifference(left, right, isEnded) {
  const n = commonLength(left, right);
  const start = startOfWord(left, right, n);
  const nSameWords = countWords(left.slice(0, start));
  const isOpen = n === left.length || n === right.length;
  if (isOpen && (!isEnded || left === right)) {
    return { isSame: isEnded, nSameWords, left: null, right: null };
  }
  return { isSame: false, nSameWords, left: wordAt(left, start), right: wordAt(right, start) };
}

function commonLength(left, right) {
  const end = Math.min(left.length, right.length);
  let n = 0;
  while (n < end && left[n] === right[n]) n += 1;
  return n;
}

// The beginning of the word in which the texts differ; white space is no part of a word.
function startOfWord(left, right, n) {
  const isInside = [left, right].some((text) => n < text.length && !isSpace(text[n]));
  let start = n;
  while (isInside && start > 0 && !isSpace(left[start - 1])) start -= 1;
  return start;
}

function wordAt(text, start) {
  let end = start;
  while (end < text.length && isSpace(text[end])) end += 1;
  while (end < text.length && !isSpace(text[end])) end += 1;
  return [start, end];
}

function isSpace(character) {
  return /\s/.test(character);
}

function countWords(text) {
  return text.split(/\s+/).filter(Boolean).length;
}
