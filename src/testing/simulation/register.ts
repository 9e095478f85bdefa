/**
 * The data that the lock protects: one number with a version, behind a fence. Reading raises the fence too, so that a
 * writer that was overtaken by a reader is refused before it can undo what that reader is about to write.
 */
export interface ReadResult {
  readonly version: number;
}

export type WriteResult =
  | { readonly is: 'accepted'; readonly overVersion: number }
  | { readonly is: 'fenced' };

export class FencedRegister {
  #version = 0;
  #fence = 0n;
  #accepted = 0;

  /** How many writes were accepted. */
  get accepted(): number {
    return this.#accepted;
  }

  get version(): number {
    return this.#version;
  }

  /** Raises the fence to the reader's token. `null`: a later holder was here already. */
  read(token: bigint): ReadResult | null {
    if (token < this.#fence) return null;
    this.#fence = token;
    return { version: this.#version };
  }

  /** Writes the version after the one that was read, unless a later holder has been here. */
  write(token: bigint, readVersion: number): WriteResult {
    if (token < this.#fence) return { is: 'fenced' };
    const overVersion = this.#version;
    this.#fence = token;
    this.#version = readVersion + 1;
    this.#accepted += 1;
    return { is: 'accepted', overVersion };
  }
}
