/** The photos in what was dropped or chosen, also in folders and the folders in them. */

const MAX_FILES = 2000;
const PICTURE = /\.(jpe?g|jfif|png|webp|gif|bmp|tiff?|avif|hei[cf])$/i;

const isPhoto = (file) => !file.name.startsWith(".") && (file.type.startsWith("image/") || PICTURE.test(file.name));

/**
 * @typedef {{photos: File[], others: number, more: boolean}} Found `others`: files that are no photos; `more`: there are
 *   more than can be taken
 */

/** The photos of a chosen folder. @param {Iterable<File>} files @returns {Found} */
export function photosOf(files) {
  const all = [...files];
  const photos = all.filter(isPhoto);
  return { photos: photos.slice(0, MAX_FILES), others: all.length - photos.length, more: photos.length > MAX_FILES };
}

/**
 * What was dropped. Files that were dropped themselves are taken as they are: the server says what is wrong with them.
 * Call it in the event's listener, after which the browser forgets the items.
 * @param {DataTransfer} data @returns {Promise<Found>}
 */
export async function dropped(data) {
  const entries = [...data.items].filter((item) => item.kind === "file")
    .map((item) => ({ entry: item.webkitGetAsEntry?.() ?? null, file: item.getAsFile() }));
  const found = { photos: [], others: 0, more: false };
  for (const { entry, file } of entries) {
    if (entry?.isDirectory) await walk(entry, found);
    else if (file) found.photos.push(file);
  }
  return found;
}

async function walk(folder, found) {
  const reader = folder.createReader();
  const entries = [];
  for (;;) { // a browser gives a hundred at a time
    const some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
    if (some.length === 0) break;
    entries.push(...some);
  }
  entries.sort((one, other) => one.name.localeCompare(other.name, undefined, { numeric: true }));
  for (const entry of entries) {
    if (found.photos.length >= MAX_FILES) {
      found.more = true;
      return;
    }
    if (entry.isDirectory) await walk(entry, found);
    else {
      const file = await new Promise((resolve, reject) => { entry.file(resolve, reject); });
      if (isPhoto(file)) found.photos.push(file);
      else found.others += 1;
    }
  }
}
