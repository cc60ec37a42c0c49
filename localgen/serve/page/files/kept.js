// Small values that the browser keeps: until the tab is closed ("session") or for good ("local").
// Where it keeps nothing for this page, they live as long as the page.
const memory = new Map();

function areaOf(kind) {
  try {
    return kind === "session" ? sessionStorage : localStorage;
  } catch {
    return {
      getItem: (name) => memory.get(name) ?? null,
      setItem: (name, value) => memory.set(name, value),
    };
  }
}

export function recall(kind, name) {
  return areaOf(kind).getItem(`localgen.${name}`);
}

export function keep(kind, name, value) {
  areaOf(kind).setItem(`localgen.${name}`, value);
}
