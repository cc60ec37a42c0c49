// What two tabs wrote to one conversation becomes one: no message of either is lost.

// Takes over what is newer in another version of a conversation. Changes it in place: views, and
// replies on their way, hold its messages. Returns it.
export function mergeInto(conversation, other) {
  const { messages, updated, ...fields } = other;
  if (timeOf(other) > timeOf(conversation)) Object.assign(conversation, fields);
  conversation.updated = Math.max(conversation.updated, updated);
  const known = new Map(conversation.messages.map((message) => [message.id, message]));
  for (const message of messages) {
    const ours = known.get(message.id);
    if (!ours) conversation.messages.push(message);
    else if (timeOf(message) > timeOf(ours)) Object.assign(ours, message);
  }
  return conversation;
}

// Notes that a conversation or a message is newer than it was, also where a clock was set back.
export function touch(thing) {
  thing.changed = Math.max(Date.now(), timeOf(thing) + 1);
}

// changed: when a person changed the conversation, or when a reply grew. It is not exported.
function timeOf({ changed = 0 }) {
  return changed;
}
