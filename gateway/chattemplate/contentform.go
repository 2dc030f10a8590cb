package chattemplate

// wantsParts tells whether a template iterates over the parts of a message's content,
// as vLLM decides it from the syntax tree: some loop over messages (or a variable set
// from them) names a message, and some loop goes over that name's content. Scopes do
// not count, only names.
func wantsParts(body []stmt) bool {
	var sets []*setStmt
	var loops []*forStmt
	walk(body, func(n any) {
		switch n := n.(type) {
		case *setStmt:
			sets = append(sets, n)
		case *forStmt:
			loops = append(loops, n)
		}
	})
	work := &analysis{}
	lists := []string{"messages"}
	seen := map[string]bool{"messages": true}
	for i := 0; i < len(lists); i++ {
		work.add(len(sets))
		for _, s := range sets {
			if !reads(s.x, lists[i], "") {
				continue
			}
			target, ok := s.target.(*nameExpr)
			if !ok { // vLLM gives up on a tuple, and takes the string form
				return false
			}
			if !seen[target.name] {
				seen[target.name] = true
				lists = append(lists, target.name)
			}
		}
	}
	items, ok := loopNames(loops, lists, "", work)
	if !ok {
		return false
	}
	parts, _ := loopNames(loops, items, "content", work)
	return len(parts) > 0
}

// loopNames are the targets of loops over one of names, or over its attribute key;
// false at a target that is not a name.
func loopNames(loops []*forStmt, names []string, key string, work *analysis) (targets []string, ok bool) {
	for _, l := range loops {
		work.add(len(names))
		for _, name := range names {
			if !reads(l.iter, name, key) {
				continue
			}
			target, isName := l.target.(*nameExpr)
			if !isName {
				return targets, false
			}
			targets = append(targets, target.name)
			break
		}
	}
	return targets, true
}

// reads tells whether x is the variable, or its attribute key, perhaps filtered,
// tested or sliced.
func reads(x expr, name, key string) bool {
	switch x := x.(type) {
	case *filterExpr:
		return x.x != nil && reads(x.x, name, key)
	case *testExpr:
		return reads(x.x, name, key)
	case *itemExpr:
		if _, ok := x.arg.(*sliceExpr); ok {
			return reads(x.x, name, key)
		}
		c, ok := x.arg.(*constExpr)
		return ok && key != "" && c.v == str(key) && reads(x.x, name, "") && isName(x.x)
	case *attrExpr:
		return key != "" && x.name == key && reads(x.x, name, "") && isName(x.x)
	case *nameExpr:
		return key == "" && x.name == name
	}
	return false
}

func isName(x expr) bool {
	_, ok := x.(*nameExpr)
	return ok
}
