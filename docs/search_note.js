// browsers let no page that is opened as a file read the index of the search
if (location.protocol === "file:") {
  const field = document.querySelector("[data-md-component=search-query]");
  field.placeholder = "only with: make docs-serve";
  field.disabled = true;
}
