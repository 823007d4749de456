// Interpolate dashboard variables as Grafana documents it.
export type Variable = {
  value: any;
  allValue?: string;
  multi?: boolean;
  includeAll?: boolean;
  options?: string[];
  texts?: Record<string, string>;
  error?: string;
};
export type Variables = Record<string, Variable>;

const ALL = '$__all';
const REFERENCE = /\$(\w+)|\[\[(\w+?)(?::(\w+))?\]\]|\$\{(\w+)(?:\.([^:^}]+))?(?::([^}]+))?\}/g;

export const isAll = (value: any) => value === ALL || (Array.isArray(value) && value[0] === ALL);
const escapeRegex = (text: string) => text.replace(/[\\^$*+?.()|[\]{}/]/g, '\\$&');
const escapeProm = (text: string) =>
  text.replace(/\\/g, '\\\\\\\\').replace(/[$^*{}[\]'+?.()|]/g, '\\\\$&');
const alternatives = (list: string[], escape: (text: string) => string) =>
  list.length > 1 ? `(${list.map(escape).join('|')})` : escape(list[0] ?? '');

function format(name: string, value: any, form: string, variable?: Variable): string {
  if (variable && isAll(value)) {
    if (form === 'queryparam') return `var-${name}=${encodeURIComponent(ALL)}`;
    if (variable.allValue) return variable.allValue;
    value = variable.options ?? [];
  }
  const list: string[] = Array.isArray(value) ? value.map(String) : [String(value ?? '')];
  const forms: Record<string, () => string> = {
    csv: () => list.join(','),
    raw: () => list.join(','),
    text: () => list.map((one) => variable?.texts?.[one] ?? one).join(' + '),
    pipe: () => list.join('|'),
    queryparam: () => list.map((one) => `var-${name}=${encodeURIComponent(one)}`).join('&'),
    percentencode: () => encodeURIComponent(list.join(',')),
    regex: () => alternatives(list, escapeRegex),
    prom: () =>
      variable?.multi || variable?.includeAll
        ? alternatives(list, escapeProm)
        : list[0].replace(/\\/g, '\\\\').replace(/"/g, '\\"'),
  };
  return (forms[form] ?? (() => (list.length > 1 ? `{${list.join(',')}}` : list[0])))();
}

/** Fill in variables; `scoped` are macros: a value, {verbatim}, or a function of the path behind the dot. */
export function interpolate(
  text: string,
  variables: Variables,
  scoped: Record<string, any> = {},
  form = 'glob',
  missing?: Set<string>,
): string {
  return (text ?? '').replace(REFERENCE, (whole, plain, bracket, bracketForm, braced, path, bracedForm) => {
    const name = plain || bracket || braced;
    const wanted = bracketForm || bracedForm || form;
    if (scoped[name] !== undefined) {
      const value = scoped[name];
      if (value?.verbatim !== undefined) return value.verbatim;
      const found = typeof value === 'function' ? value(path) : value;
      if (found === undefined) missing?.add(whole);
      return found === undefined ? whole : format(name, found, wanted === 'prom' ? 'glob' : wanted);
    }
    if (variables[name]) return format(name, variables[name].value, wanted, variables[name]);
    // $1 is of a regular expression; Infinity's backend fills in the range itself.
    if (!/^\d+$/.test(name) && !name.startsWith('__time')) missing?.add(whole);
    return whole;
  });
}
