/** Records that each need a request: a few of them at once. */

const AT_ONCE = 3;

/**
 * Ask for each of these records, `most` at once. It takes them off the list, so several may work on one.
 * @param {(record: object) => Promise<void>} ask must not fail
 */
export async function forEachFew(left, most, ask) {
  const some = async () => { while (left.length) await ask(left.shift()); };
  await Promise.all(Array.from({ length: Math.min(most, left.length) }, some));
}

/**
 * @param {(record: object) => Promise<void>} ask must not fail
 * @returns {(record: object) => void} puts a record into the queue, if it is not in it
 */
export function fewAtOnce(ask) {
  const waiting = new Set();
  let busy = 0;
  const next = () => {
    while (busy < AT_ONCE && waiting.size) {
      const [record] = waiting;
      waiting.delete(record);
      busy += 1;
      ask(record).finally(() => {
        busy -= 1;
        next();
      });
    }
  };
  return (record) => {
    waiting.add(record);
    next();
  };
}
