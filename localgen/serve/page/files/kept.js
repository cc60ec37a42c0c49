// Small values that the browser keeps: until the tab is closed ("session") or for good ("local").
// Where it keeps nothing for this page, or no more, they live as long as the page.
const memory = new Map();

export function recall(kind, name) {
  const known = memory.get(name);
  if (known !== undefined) return known;
  try {
    return areaOf(kind).getItem(`localgen.${name}`);
  } catch {
    return null;
  }
}

export function keep(kind, name, value) {
  try {
    areaOf(kind).setItem(`localgen.${name}`, value);
    memory.delete(name);
  } catch {
    memory.set(name, value);
  }
}

function areaOf(kind) {
  return kind === "session" ? sessionStorage : localStorage;
}
