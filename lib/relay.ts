/**
 * What the addon is given in place of a function of ours. It keeps that for as
 * long as its object lives, and a function that knows the object would keep it
 * alive for ever. This one knows nothing but where to pass on to, until it is cut.
 * What comes before there is somebody to take it waits here.
 */
export class Relay<T> {
  #to: ((value: T) => void) | undefined;
  #kept: T[] | undefined = [];
  /** For the addon. */
  readonly call = (value: T): void => {
    if (this.#to === undefined) this.#kept?.push(value);
    else this.#to(value);
  };

  /** What has come, and all that comes from now on. */
  pass(to: (value: T) => void): void {
    this.#to = to;
    for (const value of this.#kept ?? []) to(value);
    this.#kept = undefined;
  }

  /** From now on, nothing is passed on and nothing kept alive. */
  cut(): void {
    this.#to = undefined;
    this.#kept = undefined;
  }
}
