// Which conversations get a reply in another tab: each gets one at a time. Browsers give a page that
// comes from another machine without HTTPS no locks: then tabs do not know of each other's replies.

export class OtherTabs {
  // onChange(id): a reply began or ended in another tab.
  constructor(onChange) {
    this.onChange = onChange;
    this.held = new Set(); // ids of the conversations that get a reply here
    this.busy = new Set(); // and elsewhere
  }

  isBusy(id) {
    return this.busy.has(id);
  }

  // Tells the other tabs that a conversation gets a reply, until a promise is kept.
  async hold(id, ended) {
    this.held.add(id);
    const lasting = ended.finally(() => this.held.delete(id));
    if (navigator.locks) await navigator.locks.request(nameOf(id), () => lasting);
  }

  async look(id) {
    if (!navigator.locks || this.busy.has(id)) return;
    const { held } = await navigator.locks.query();
    if (this.held.has(id) || !held.some(({ name }) => name === nameOf(id))) return;
    this.busy.add(id);
    this.onChange(id);
    await navigator.locks.request(nameOf(id), { mode: "shared" }, () => {}); // waits for its end
    this.busy.delete(id);
    this.onChange(id);
  }
}

function nameOf(id) {
  return `localgen.reply.${id}`;
}
