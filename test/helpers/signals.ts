/** The controller's signal, which fires just before somebody listens to it, once that is `due`. */
export function justBefore(controller: AbortController, due: () => boolean): AbortSignal {
  const { signal } = controller;
  const add = signal.addEventListener.bind(signal);
  signal.addEventListener = ((...args: Parameters<typeof add>) => {
    if (due()) controller.abort('just before');
    add(...args);
  }) as typeof add;
  return signal;
}
