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
    const request = act(transaction.objectStore(STORE));
    transaction.oncomplete = () => resolve(request.result);
    transaction.onerror = () => reject(transaction.error);
    transaction.onabort = () => reject(transaction.error); // also when the disk is full
  });
}

export function loadAll() {
  return transact("readonly", (store) => store.getAll());
}

export function loadOne(id) {
  return transact("readonly", (store) => store.get(id));
}

export function save(conversation) {
  return transact("readwrite", (store) => store.put(conversation));
}

export function erase(id) {
  return transact("readwrite", (store) => store.delete(id));
}
