/** Progress lines: one that redraws itself on a terminal, a few plain ones elsewhere. */

const BAR_WIDTH = 18;
/** On a terminal, the line is redrawn this often; faster is only work. */
const REDRAW_MS = 100;

export class Progress {
  readonly #out: NodeJS.WriteStream;
  readonly #label: string;
  #drawnMs = Number.NEGATIVE_INFINITY;
  #note = '';

  constructor(out: NodeJS.WriteStream, label: string) {
    this.#out = out;
    this.#label = label;
  }

  update(share: number, note: string): void {
    const isNews = note !== this.#note;
    this.#note = note;
    if (this.#out.isTTY) {
      if (!isNews && performance.now() - this.#drawnMs < REDRAW_MS) return;
      this.#drawnMs = performance.now();
      this.#out.write(`\r${this.#line(share)}\x1b[K`);
    } else if (isNews) {
      this.#out.write(`${this.#line(share)}\n`);
    }
  }

  end(): void {
    this.#out.write(
      `${this.#out.isTTY ? '\r' : ''}${this.#line(1)}${this.#out.isTTY ? '\x1b[K' : ''}\n`,
    );
  }

  #line(share: number): string {
    const filled = Math.floor(share * BAR_WIDTH);
    const bar = '#'.repeat(filled).padEnd(BAR_WIDTH, '-');
    const percent = `${Math.floor(share * 100)}`.padStart(3);
    return `${this.#label}  ${bar} ${percent} %${this.#note === '' ? '' : `  ${this.#note}`}`;
  }
}
