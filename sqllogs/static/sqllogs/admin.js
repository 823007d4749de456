// The admin's script for selecting rows needs its translations, which it loads by a request that would be
// recorded. These three functions stand in for them.
"use strict";

window.gettext ??= (text) => text;
window.ngettext ??= (one, many, count) => (count === 1 ? one : many);
window.interpolate ??= (text, values) => text.replace(/%\((\w+)\)s/g, (_, name) => String(values[name]));
