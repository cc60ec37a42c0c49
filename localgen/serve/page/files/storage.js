// Conversations in the browser's database (IndexedDB), one entry each. Nothing leaves the browser.

const STORE = "conversations";
let opening = null;

function openDatabase() {
  opening ??= new Promise((resolve, reject) => {
    const request = indexedDB.open("localgen", 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
    request.onsuccess = () => {
      const database = request.result;
      database.onclose = forget; // the browser's data was cleared
      database.onversionchange = () => {
        database.close(); // another page removes or replaces it
        forget();
      };
      resolve(database);
    };
    request.onerror = () => reject(request.error);
  });
  opening.catch(forget);
  return opening;
}

// The next use opens it anew.
function forget() {
  opening = null;
}

async function transact(mode, act) {
  const database = await openDatabase();
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(STORE, mode);
    const fail = (error) => reject(error ?? new Error("the browser gave up"));
    transaction.onerror = () => fail(transaction.error);
    transaction.onabort = () => fail(transaction.error); // also when the disk is full
    const giveUp = (error) => {
      fail(error);
      transaction.abort();
    };
    try {
      const request = act(transaction.objectStore(STORE), giveUp);
      transaction.oncomplete = () => resolve(request.result);
    } catch (error) {
      giveUp(error);
    }
  });
}

export function loadAll() {
  return transact("readonly", (store) => store.getAll());
}

export function loadOne(id) {
  return transact("readonly", (store) => store.get(id));
}

// Writes what merge(stored) returns, unless that is null. stored: undefined if there is no entry.
export function save(id, merge) {
  return transact("readwrite", (store, giveUp) => {
    const reading = store.get(id);
    reading.onsuccess = () => {
      try {
        const merged = merge(reading.result);
        if (merged) store.put(merged);
      } catch (error) {
        giveUp(error);
      }
    };
    return reading;
  });
}

// Writes new conversations: all of them, or none.
export function add(conversations) {
  return transact("readwrite", (store) => {
    for (const conversation of conversations) store.put(conversation);
    return store.count();
  });
}

export function erase(id) {
  return transact("readwrite", (store) => store.delete(id));
}
