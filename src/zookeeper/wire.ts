/**
 * Values as ZooKeeper writes them (jute encoding): numbers are big-endian, texts and lists come
 * after their length.
 */

/** Writes frames, and in each one value after the other. */
export class Writer {
  #buffer = Buffer.allocUnsafe(256);
  #length = 0;
  #start = 0;

  /** Begins a frame: its length comes first, once it is known. */
  begin(): this {
    this.#start = this.#length;
    return this.int(0);
  }

  end(): void {
    this.#buffer.writeInt32BE(this.#length - this.#start - 4, this.#start);
  }

  int(value: number): this {
    this.#reserve(4);
    this.#length = this.#buffer.writeInt32BE(value, this.#length);
    return this;
  }

  flag(value: boolean): this {
    this.#reserve(1);
    this.#length = this.#buffer.writeUInt8(value ? 1 : 0, this.#length);
    return this;
  }

  text(value: string): this {
    const size = Buffer.byteLength(value);
    this.int(size);
    this.#reserve(size);
    this.#length += this.#buffer.write(value, this.#length);
    return this;
  }

  /** All frames. */
  bytes(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  #reserve(size: number): void {
    if (this.#length + size <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(2 * (this.#length + size));
    this.#buffer.copy(larger, 0, 0, this.#length);
    this.#buffer = larger;
  }
}

/**
 * Reads one value after the other. Throws at the end of the frame. Nothing that it returns shares
 * memory with it.
 */
export class Reader {
  readonly #frame: Buffer;
  #at: number;

  constructor(frame: Buffer, at: number) {
    this.#frame = frame;
    this.#at = at;
  }

  int(): number {
    const value = this.#frame.readInt32BE(this.#at);
    this.#at += 4;
    return value;
  }

  long(): bigint {
    const value = this.#frame.readBigInt64BE(this.#at);
    this.#at += 8;
    return value;
  }

  flag(): boolean {
    const value = this.#frame.readUInt8(this.#at) === 1;
    this.#at += 1;
    return value;
  }

  text(): string {
    const from = this.#at;
    this.bytes();
    return this.#frame.toString('utf8', from + 4, this.#at);
  }

  /** Passes over bytes. A length of -1 stands for none. */
  bytes(): void {
    const size = Math.max(0, this.int());
    if (this.#at + size > this.#frame.length) throw new RangeError('the frame ends too early');
    this.#at += size;
  }

  texts(): string[] {
    const all: string[] = [];
    for (let left = this.int(); left > 0; left -= 1) all.push(this.text());
    return all;
  }

  /** Passes over so many bytes. */
  skip(size: number): this {
    this.#at += size;
    return this;
  }
}
