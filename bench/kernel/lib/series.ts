/** Measurements by test and contender, in the order in which they came. */
export class Series<Value> {
  readonly #all = new Map<string, Map<string, Value[]>>();

  add(test: string, contender: string, value: Value): void {
    const contenders = this.#all.get(test) ?? new Map<string, Value[]>();
    this.#all.set(test, contenders);
    contenders.set(contender, [...this.of(test, contender), value]);
  }

  of(test: string, contender: string): Value[] {
    return this.#all.get(test)?.get(contender) ?? [];
  }

  tests(): string[] {
    return [...this.#all.keys()];
  }

  contenders(test: string): string[] {
    return [...(this.#all.get(test)?.keys() ?? [])];
  }

  toJSON(): unknown {
    return Object.fromEntries([...this.#all].map(([test, by]) => [test, Object.fromEntries(by)]));
  }
}
