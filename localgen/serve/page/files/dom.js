// Builds nodes. Strings become text nodes, so nothing that a model or a file says is ever markup.

// children: nodes, strings, lists of them (of any length: arguments have a limit), and null or false.
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  for (const child of children.flat()) if (child != null && child !== false) node.append(child);
  return node;
}

export function byId(id) {
  return document.getElementById(id);
}

// Changes a text only if it differs: screen readers and selections notice every change.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// A second click of a double click, or a key that is held, does not press a button again: what it
// means has changed.
export function ignoreRepeats(button) {
  button.addEventListener("click", (event) => event.detail > 1 && event.preventDefault());
  button.addEventListener("keydown", (event) => event.repeat && event.preventDefault());
}

export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
