// What our modules use of lit-html; the modules themselves are minified.
export interface TemplateResult {
  strings: TemplateStringsArray;
}
/** Stands where any value may. */
export const nothing: any;
export function html(strings: TemplateStringsArray, ...values: unknown[]): TemplateResult;
export function svg(strings: TemplateStringsArray, ...values: unknown[]): TemplateResult;
export function render(value: unknown, container: Element | DocumentFragment): unknown;
