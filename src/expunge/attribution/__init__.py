"""Attribution: which records teach a fact, where it lies in the weights, what will break."""
