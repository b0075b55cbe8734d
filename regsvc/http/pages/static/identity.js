// Posts a provider's answer. While the page is loading, so that going back does not lead here again.
document.getElementById("return").submit();
