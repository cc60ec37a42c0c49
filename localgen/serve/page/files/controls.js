// Characters that change the order in which others are shown: a text could read otherwise than it is.
const CONTROLS = /[\u202a-\u202e\u2066-\u2069]/g;

// For code and arguments, which have to be read as they are.
export function withVisibleControls(text) {
  return text.replace(CONTROLS, (control) => `⟨U+${control.codePointAt(0).toString(16)}⟩`);
}

// For names and words inside a sentence of this page, which they would change too.
export function withoutControls(text) {
  return text.replace(CONTROLS, "");
}
