// Keys of the whole page. Those without Ctrl or ⌘ do nothing while a text is written.
import { isDialogOpen } from "./dialogs.js";

// actions: {stop, open, search, write, settings, help, closeSidebar}; stop() returns whether it did.
export function connectShortcuts(actions) {
  document.addEventListener("keydown", (event) => {
    const action = isDialogOpen() || event.isComposing ? null : actionOf(event, actions);
    if (!action) return;
    event.preventDefault();
    action();
  });
}

function actionOf(event, actions) {
  const key = event.key.toLowerCase();
  if (event.key === "Escape")
    return event.shiftKey ? actions.write : () => actions.stop() || actions.closeSidebar();
  if (event.ctrlKey || event.metaKey) {
    if (event.altKey) return null;
    if (event.shiftKey) return { o: actions.open }[key];
    return { k: actions.search, ",": actions.settings }[key];
  }
  if (isWriting(event.target)) return null;
  return { "?": actions.help, "/": actions.write }[event.key];
}

function isWriting(node) {
  return node.matches("input, textarea, select");
}
