// Dialogs and notices of both pages.
import { byId, h } from "./dom.js";
import { setApiKey } from "./server.js";

let opener = null; // the last click before a dialog was open

// Each [data-opens] button opens its dialog, and each [data-closes] button closes the one it is in.
export function connectDialogs() {
  for (const button of document.querySelectorAll("[data-opens]")) {
    button.addEventListener("click", () => byId(button.dataset.opens).showModal());
  }
  for (const button of document.querySelectorAll("[data-closes]")) {
    button.addEventListener("click", () => button.closest("dialog").close());
  }
  document.addEventListener("click", noteOpener, true);
  for (const dialog of document.querySelectorAll("dialog")) {
    ignoreSecondClick(dialog);
    closeFromOutside(dialog);
  }
}

function noteOpener(event) {
  if (!isDialogOpen()) opener = event;
}

// The second click of a double click, at the place of the one that opened a dialog, does nothing in it.
function ignoreSecondClick(dialog) {
  let isSecond = false;
  dialog.addEventListener(
    "mousedown",
    (event) => {
      isSecond = event.clientX === opener?.clientX && event.clientY === opener?.clientY;
      opener = null;
    },
    true,
  );
  dialog.addEventListener(
    "click",
    (event) => {
      if (isSecond) event.stopImmediatePropagation();
      isSecond = false;
    },
    true,
  );
}

// A click outside closes a dialog: one that begins and ends there, as the marking of a text does not.
function closeFromOutside(dialog) {
  let isPressed = false;
  dialog.addEventListener("mousedown", (event) => {
    isPressed = isOutside(dialog, event);
  });
  dialog.addEventListener("click", (event) => {
    if (isPressed && isOutside(dialog, event)) dialog.close();
  });
}

function isOutside(dialog, { target, clientX: x, clientY: y }) {
  const { left, right, top, bottom } = dialog.getBoundingClientRect();
  return target === dialog && (x < left || x > right || y < top || y > bottom);
}

export function isDialogOpen() {
  return document.querySelector("dialog[open]") !== null;
}

// Asks a question; resolves with whether the answer is yes.
export function confirmed(question, yes) {
  const dialog = byId("confirm");
  byId("confirm-question").textContent = question;
  byId("confirm-yes").textContent = yes;
  return answerOf(dialog);
}

// Asks for the API key and keeps it until the tab is closed; resolves with whether one was given.
export async function askForKey(message) {
  byId("key-message").textContent = message;
  const isGiven = await answerOf(byId("key-dialog"));
  if (isGiven) setApiKey(byId("key").value);
  byId("key").value = "";
  return isGiven;
}

// The dialogs' close events arrive later than the dialogs close, so one may arrive after its
// dialog was opened again: it answers nothing then, and the question before has ended unanswered.
const unanswered = new WeakMap();

function answerOf(dialog) {
  unanswered.get(dialog)?.(false);
  if (dialog.open) dialog.close();
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    unanswered.set(dialog, resolve);
    dialog.onclose = () => dialog.open || resolve(dialog.returnValue === "yes");
  });
}

// Shows a message until it is dismissed or another one takes its place.
export function notify(message, action = null) {
  const place = byId("notice");
  const close = () => place.replaceChildren();
  const act =
    action &&
    h(
      "button",
      {
        type: "button",
        onclick: () => {
          close();
          action.run();
        },
      },
      action.label,
    );
  place.replaceChildren(
    h(
      "div",
      { class: "notice" },
      h("p", { dir: "auto" }, message),
      act ?? "",
      h("button", { type: "button", onclick: close }, "Dismiss"),
    ),
  );
}
