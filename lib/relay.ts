/**
 * What the addon is given in place of a function of ours. It keeps that for as
 * long as its object lives, and a function that knows the object would keep it
 * alive for ever. This one knows nothing but where to pass on to, until it is cut.
 */
export class Relay<T> {
  #to: ((value: T) => void) | undefined;
  /** For the addon. */
  readonly call = (value: T): void => this.#to?.(value);

  constructor(to: (value: T) => void) {
    this.#to = to;
  }

  /** From now on, nothing is passed on and nothing kept alive. */
  cut(): void {
    this.#to = undefined;
  }
}
